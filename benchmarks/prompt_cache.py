"""Claim: remembering the segments that prompts share pays: a turn costs what is new in it.

Usage: python benchmarks/prompt_cache.py MODEL_DIRECTORY [--turns N] [--system WORDS] [--repeat R]

A conversation grows by a turn at a time, as an agent's does, behind a long system message; each
prompt is encoded whole. Prints JSON: microseconds a prompt for the first, the middle and the last
turn, without and with what is remembered, and for prompts that share nothing (what remembering
costs then). The best of R runs, one process, one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.prompt_encoder import PromptEncoder, find_boundaries

SENTENCE = "The tool returns a list of records, each with a name, größe, and 3.14 as its value."


def prose(words: int, seed: int) -> str:
    vocabulary = SENTENCE.split()
    return " ".join(f"{vocabulary[(seed + at) % len(vocabulary)]}{seed}" for at in range(words))


def prompts(mark: str, turns: int, system: int, seed: int) -> list[str]:
    """The prompts of one conversation, each the last one and a turn more."""
    text, found = mark + prose(system, seed), []
    for turn in range(turns):
        text += f"{mark}{prose(60, seed * 1000 + turn)}{mark}"
        found.append(text)
        text += prose(120, seed * 2000 + turn)
    return found


def best(model: Preprocessor, marks: list[str], conversations: list[list[str]]) -> list[float]:
    """Microseconds by turn: the least of all conversations, each with an encoder of its own."""
    least = [float("inf")] * len(conversations[0])
    for texts in conversations:
        encoder = PromptEncoder(model.tokenizer.encode_batch, marks)
        for turn, text in enumerate(texts):
            start = time.perf_counter()
            encoder.encode(text)
            least[turn] = min(least[turn], (time.perf_counter() - start) * 1e6)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--system", type=int, default=1500)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    model = Preprocessor.load(ModelFiles.of_directory(options.model), context_length=0)
    added = model.tokenizer.added_tokens()
    marks = find_boundaries([token.text for token in added], added)
    if not marks:
        sys.exit("the model has no added token that a prompt can be cut at")
    found = [
        prompts(marks[0], options.turns, options.system, seed) for seed in range(options.repeat)
    ]
    alone = [[texts[-1]] for texts in found]
    plain, remembered = (best(model, kept, found) for kept in ([], marks))
    unshared = [best(model, kept, alone)[0] for kept in ([], marks)]
    result = {
        "tokens": {
            "first": len(model.encode(found[0][0])),
            "last": len(model.encode(found[0][-1])),
        },
        "us_per_prompt": {
            name: {
                "without": round(plain[turn]),
                "with": round(remembered[turn]),
                "times": round(plain[turn] / remembered[turn], 1),
            }
            for name, turn in (("first", 0), ("middle", options.turns // 2), ("last", -1))
        },
        "nothing_shared": {"without": round(unshared[0]), "with": round(unshared[1])},
        "python": platform.python_version(),
        "tokenizers": version("tokenizers"),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
