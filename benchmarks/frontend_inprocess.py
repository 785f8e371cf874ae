"""The frontend alone: HTTP in, a scripted engine in the same process, HTTP out.

No worker and no network plane, so what is left is what a request costs the frontend: parsing,
template, tokenizer, decoding, frames, writes. Load comes from wrk. Prints one JSON object.

    python benchmarks/frontend_inprocess.py [--model DIR] [--seconds 5] [--rounds 3] [--profile FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import platform
import re
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from muster._version import __version__
from muster.config.settings import HttpSettings
from muster.frontend.model_table import ModelTable
from muster.frontend.served_model import ServedModel
from muster.frontend.server import Frontend
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.testing.tiny_model import write_tiny_model
from muster.wire.context import Context

PROMPT = "Write a short poem about distributed systems and the sea, with care for the reader."
SYSTEM = "You are a helpful assistant."


class Replay:
    """A response that is there already: ``per_batch`` outputs at a time, a turn of the loop apart."""

    __slots__ = ("_batches", "_position")

    def __init__(self, batches: Sequence[Sequence[EngineOutput]]) -> None:
        self._batches = batches
        self._position = 0

    async def batch(self) -> Sequence[EngineOutput]:
        position = self._position
        if position == len(self._batches):
            return ()
        if position:
            await asyncio.sleep(0)
        self._position = position + 1
        return self._batches[position]

    async def read(self, take: Callable[[Sequence[EngineOutput]], bool]) -> bool:
        while items := await self.batch():
            if not take(items):
                return True
        return False

    def kill(self) -> None:
        self._position = len(self._batches)


def replies(preprocessor: Preprocessor, tokens: int, per_batch: int) -> list[list[EngineOutput]]:
    """``tokens`` outputs of one printable token each, cut into batches."""
    ids = (
        preprocessor.encode("The tide replies to every node in turn, and waits for none. ") * tokens
    )
    items = [EngineOutput(token_ids=[token_id]) for token_id in ids[:tokens]]
    items[-1].finish_reason = "length"
    return [items[start : start + per_batch] for start in range(0, tokens, per_batch)]


class Engine:
    """Answers every request with the same outputs; ``per_batch`` can be changed between runs."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        self._preprocessor = preprocessor
        self._made: dict[tuple[int, int], list[list[EngineOutput]]] = {}
        self.per_batch = 1

    async def generate(self, request: EngineRequest, *, context: Context) -> Any:
        del context
        key = (request.stop_conditions.max_tokens or 16, self.per_batch)
        if key not in self._made:
            self._made[key] = replies(self._preprocessor, *key)
        return Replay(self._made[key])


def wrk_script(directory: Path, tokens: int, *, stream: bool) -> Path:
    body = json.dumps(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": PROMPT},
            ],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": stream,
        }
    )
    path = directory / f"{tokens}-{stream}.lua"
    path.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = {json.dumps(body)}\n"
    )
    return path


async def load(port: int, script: Path, *, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk; requests per second and our own CPU time per request, in user and kernel mode."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    process = await asyncio.create_subprocess_exec(
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/v1/chat/completions",
        stdout=asyncio.subprocess.PIPE,
    )
    out = (await process.communicate())[0].decode()
    after = resource.getrusage(resource.RUSAGE_SELF)
    requests = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index] # wrk's own format
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    user = (after.ru_utime - before.ru_utime) / requests * 1e6
    system = (after.ru_stime - before.ru_stime) / requests * 1e6
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index] # as above
    return {"requests_per_s": rate, "user_us": user, "system_us": system}


CASES = (
    # name, tokens, streamed, tokens per batch
    ("chat_16", 16, False, 16),
    ("chat_1", 1, False, 1),
    ("stream_128_joined", 128, True, 128),
    ("stream_128_by_8", 128, True, 8),
    ("stream_128_single", 128, True, 1),
    ("stream_1", 1, True, 1),
)


async def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    model_directory = arguments.model or write_tiny_model(directory, context_length=8192)
    preprocessor = Preprocessor.load(ModelFiles.of_directory(model_directory), context_length=8192)
    engine = Engine(preprocessor)
    table = ModelTable()
    table.add(
        ServedModel(
            name="bench",
            created=0,
            preprocessor=preprocessor,
            generate=engine.generate,
            context_length=8192,
        )
    )
    frontend = Frontend(HttpSettings(host="127.0.0.1", port=0), table)
    await frontend.start()
    results: dict[str, Any] = {}
    cases = [case for case in CASES if not arguments.only or case[0] in arguments.only]
    rounds: dict[str, list[dict[str, float]]] = {case[0]: [] for case in cases}
    for number in range(arguments.rounds + 1):  # the first one warms up
        for name, tokens, stream, per_batch in cases:
            engine.per_batch = per_batch
            script = wrk_script(directory, tokens, stream=stream)
            seconds = arguments.seconds if number else 1
            result = await load(
                frontend.port, script, connections=arguments.connections, seconds=seconds
            )
            if number:
                rounds[name].append(result)
    for name, tokens, stream, per_batch in cases:
        middle = {
            key: round(statistics.median(one[key] for one in rounds[name]), 1)
            for key in ("requests_per_s", "user_us", "system_us")
        }
        results[name] = middle | {
            "tokens_per_s": round(middle["requests_per_s"] * tokens),
            "tokens_per_batch": per_batch,
            "streamed": stream,
            "rounds": rounds[name],
        }
    if {"stream_128_single", "stream_1"} <= results.keys():
        many, one = results["stream_128_single"], results["stream_1"]
        results["per_streamed_token"] = {
            key: round((many[key] - one[key]) / 127, 2) for key in ("user_us", "system_us")
        }
    await frontend.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model directory; by default a tiny one")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--profile", type=Path, help="write a cProfile of everything here")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk")
    profile = cProfile.Profile() if arguments.profile else None
    with tempfile.TemporaryDirectory() as directory:
        if profile is not None:
            profile.enable()
        results = uvloop.run(measure(arguments, Path(directory)))
        if profile is not None:
            profile.disable()
            profile.dump_stats(arguments.profile)
    print(
        json.dumps(
            {
                "benchmark": "frontend_inprocess",
                "muster": __version__,
                "python": platform.python_version(),
                "machine": platform.platform(),
                "command": sys.argv,
                "results": results,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
