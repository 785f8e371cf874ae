"""The figures in the README, from the file of results: what stands between two marks there."""

from __future__ import annotations

import contextlib
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


class _Figures:
    """Medians in words."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self._reports = reports

    def ours(self, script: str, key: str) -> str:
        return number(self._reports[script]["medians"]["muster"][key])

    def theirs(self, script: str, key: str, who: str = "peer") -> str:
        return number(self._reports[script]["medians"][who][key])

    def both(self, script: str, key: str, unit: str = "") -> str:
        return f"{self.ours(script, key)}{unit} against {self.theirs(script, key)}"

    def ratio(self, script: str, key: str) -> str:
        return f"{self._reports[script]['ratio_muster_to_peer'][key]:.1f}x"


def _chat(of: _Figures) -> str:
    unary, stream = ("chat_unary", "unary_c64_per_s"), ("chat_stream", "stream_c64_per_s")
    return (
        f"**{of.ours(*unary)} chat requests/s** of 16 tokens against {of.theirs(*unary)} "
        f"({of.ratio(*unary)}), and {of.both(*stream, ' streamed tokens/s')} ({of.ratio(*stream)}), "
        "at 64 connections: `chat_unary.py`, `chat_stream.py`."
    )


def _first_token(of: _Figures) -> str:
    used, fresh = ("first_token", "reused_p50_ms"), ("first_token", "fresh_p50_ms")
    return (
        f"**{of.ours(*used)} ms to the first token** on a connection used again, with an engine that "
        f"takes 3, against {of.theirs(*used)}; on a fresh one {of.both(*fresh)}: `first_token.py`."
    )


def _start(of: _Figures) -> str:
    listed = ("start", "listed_s")
    return (
        f"**{of.ours(*listed)} s from starting a worker and a frontend to the model listed**, against "
        f"{of.theirs(*listed)}: `start.py`. Eight frontends that start on one host with an empty cache "
        f"list it after {of.both('resolve', 'eight_listed_ms', ' ms')}, and fetch "
        f"{of.both('resolve', 'eight_fetched_mb', ' MB')}: `resolve.py`."
    )


def _request_plane(of: _Figures) -> str:
    requests, items = ("request_plane", "requests_per_s"), ("request_plane", "turn_items_per_s")
    return (
        "The request plane by itself, a caller and a worker in a process each, beside the peer's Python "
        f"bindings and grpcio's asyncio: {of.both(*requests, ' requests/s')} and "
        f"{of.theirs(*requests, 'grpcio')} at 32 in flight; {of.both(*items, ' streamed items/s')} and "
        f"{of.theirs(*items, 'grpcio')} from a handler that waits once an item: `request_plane.py`."
    )


def _large_files(of: _Figures) -> str:
    return (
        "A worker that serves a file of 1 GiB to one client grows by "
        f"{of.both('worker_memory', '1gib_c1_grown_mb', ' MB')}: `worker_memory.py`."
    )


def _fleet(of: _Figures, fleet: Report) -> str:
    said = (
        f"With {fleet['instances']:,} instances of {fleet['models']:,} models in the registry a new "
        f"frontend lists all after {of.ours('large_fleet', 'all_listed_s')} s"
    )
    late = [text for round_, text in fleet["left_out"].items() if round_.startswith("peer")]
    if late:
        return f"{said}; the peer had {late[0]}: `large_fleet.py`."
    return f"{said} against {of.theirs('large_fleet', 'all_listed_s')}: `large_fleet.py`."


def figures_text(reports: Mapping[str, Report]) -> str:
    """Markdown with a handful of figures, and all in which the peer is ahead.

    A sentence of which a figure was not measured is left out.
    """
    one, of = next(iter(reports.values())), _Figures(reports)
    rounds = max(map(len, one["rounds"].values()))
    lines = [
        (
            f"Beside ai-dynamo {one['versions'].get('peer', '')} on the same {one['cores']} cores in the "
            f"same run, each with its own mock worker, medians of interleaved rounds ({rounds} of chat); all "
            "of them, with plots and with what was missed, are in [docs/benchmarks.md](docs/benchmarks.md)."
        ),
        "",
    ]
    for make in (_chat, _first_token, _start, _request_plane, _large_files):
        with contextlib.suppress(KeyError):
            lines.append(f"- {make(of)}")
    with contextlib.suppress(KeyError):
        lines.append(f"- {_fleet(of, reports['large_fleet'])}")
    worse = [f"- {each}" for each in behind(reports)]
    lines += ["", "The peer is ahead in:", "", *worse] if worse else []
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
