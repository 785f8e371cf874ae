"""The figures in the README, from the file of results: what stands between two marks there."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from words import number, target_words

__all__ = ["figures_in", "figures_text", "write_figures"]

BEGIN = "<!-- figures: written by benchmarks/page.py -->"
END = "<!-- end of figures -->"
_WIDTH = 115
_FURTHER = (
    ("resolve", "many_cold_files_ms"),
    ("metadata_route", "small_fresh_c16_requests_s"),
)
"""Figures without a target that are named where the peer is ahead: more is better if it ends so."""
Report = Mapping[str, Any]


def write_figures(results: Path, readme: Path) -> None:
    """Put the figures into the README."""
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = figures_text(json.loads(results.read_text("utf-8")))
    readme.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", "utf-8")


def figures_in(readme: str) -> str:
    """What the README's text has now.

    Raises:
        ValueError: The marks are not there.
    """
    _, begin, rest = readme.partition(BEGIN)
    found, end, _ = rest.partition(END)
    if not begin or not end:
        raise ValueError("the README has no marks for figures")
    return found.strip("\n")


def figures_text(reports: Mapping[str, Report]) -> str:
    """Markdown with a handful of figures, and all in which the peer is ahead."""

    def pair(script: str, key: str, unit: str = "", over: str = "peer") -> str:
        medians = reports[script]["medians"]
        return f"{number(medians['muster'][key])}{unit} against {number(medians[over][key])}"

    def ours(script: str, key: str) -> str:
        return number(reports[script]["medians"]["muster"][key])

    def theirs(script: str, key: str, who: str = "peer") -> str:
        return number(reports[script]["medians"][who][key])

    def ratio(script: str, key: str) -> str:
        return f"{reports[script]['ratio_muster_to_peer'][key]:.1f}x"

    one = reports["chat_unary"]
    rounds = len(one["rounds"]["muster"])
    fleet, memory = reports["large_fleet"], reports["worker_memory"]["medians"]
    lines = [
        (
            f"Beside ai-dynamo {one['versions']['peer']} on the same {one['cores']} cores in the same run, each with its "
            f"own mock worker, medians of interleaved rounds ({rounds} of chat); all of them, with plots and "
            "with what was missed, are in [docs/benchmarks.md](docs/benchmarks.md)."
        ),
        "",
        (
            f"- **{ours('chat_unary', 'unary_c64_per_s')} chat requests/s** of 16 tokens against "
            f"{theirs('chat_unary', 'unary_c64_per_s')} ({ratio('chat_unary', 'unary_c64_per_s')}), and "
            f"{ours('chat_stream', 'stream_c64_per_s')} streamed tokens/s against "
            f"{theirs('chat_stream', 'stream_c64_per_s')} ({ratio('chat_stream', 'stream_c64_per_s')}), at 64 connections: "
            "`chat_unary.py`, `chat_stream.py`."
        ),
        (
            f"- **{ours('first_token', 'reused_p50_ms')} ms to the first token** on a connection used again, with an "
            f"engine that takes 3, against {theirs('first_token', 'reused_p50_ms')}; on a fresh one "
            f"{pair('first_token', 'fresh_p50_ms')}: `first_token.py`."
        ),
        (
            f"- **{ours('start', 'listed_s')} s from starting a worker and a frontend to the model listed**, against "
            f"{theirs('start', 'listed_s')}: `start.py`. Eight frontends that start on one host with an empty cache "
            f"list it after {pair('resolve', 'eight_listed_ms', ' ms')}, and fetch "
            f"{pair('resolve', 'eight_fetched_mb', ' MB')}: `resolve.py`."
        ),
        "- The request plane by itself, a caller and a worker in a process each, beside the peer's Python bindings "
        f"and grpcio's asyncio: {pair('request_plane', 'requests_per_s', ' requests/s')} and "
        f"{theirs('request_plane', 'requests_per_s', 'grpcio')} at 32 in flight; "
        f"{pair('request_plane', 'turn_items_per_s', ' streamed items/s')} and "
        f"{theirs('request_plane', 'turn_items_per_s', 'grpcio')} from a handler that waits once an item: "
        "`request_plane.py`."
        if "grpcio" in reports["request_plane"]["medians"]
        else "- The request plane by itself, a caller and a worker in a process each: "
        f"{pair('request_plane', 'requests_per_s', ' requests/s')} at 32 in flight: `request_plane.py`.",
        (
            f"- A worker that serves a file of 1 GiB to one client grows by {number(memory['muster']['1gib_c1_grown_mb'])} "
            f"MB against {number(memory['peer']['1gib_c1_grown_mb'])}: `worker_memory.py`. With {fleet['instances']:,} "
            f"instances of {fleet['models']:,} models in the registry a new frontend lists all after "
            f"{pair('large_fleet', 'all_listed_s', ' s')}: `large_fleet.py`."
        ),
        "",
        "The peer is ahead in:"
        if (worse := behind(reports))
        else "The peer is ahead in no target.",
        *([""] if worse else []),
        *(f"- {each}" for each in worse),
    ]
    return "\n".join(
        textwrap.fill(
            line,
            _WIDTH,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def behind(reports: Mapping[str, Report]) -> Sequence[str]:
    """The figures with a target, and some without, in which one process of Muster is worse."""
    found = []
    for script, report in reports.items():
        asked = [
            (each["key"], each["at_least"], each["pair"])
            for each in report["targets"]
            if not each["absolute"] and not each["pair"].startswith("muster_x2")
        ]
        asked += [
            (key, key.endswith("_s"), "muster_to_peer") for name, key in _FURTHER if name == script
        ]
        for key, at_least, pair in asked:
            ours, theirs = (report["medians"][who].get(key) for who in pair.split("_to_"))
            if ours is None or theirs is None or (ours >= theirs if at_least else ours <= theirs):
                continue
            words = target_words(script, report, {"key": key, "pair": pair})
            found.append(f"{words} ({number(ours)} against {number(theirs)})")
    return found
