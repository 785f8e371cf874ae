"""The page of figures and its pictures, from the file of results and nothing else.

python benchmarks/page.py [RESULTS [PAGE]]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pictures import Bar, Panel, bars, lines

__all__ = ["write_page"]

HERE = Path(__file__).resolve().parent
BUSY_CORES = 0.25
TITLES = {
    "chat_unary": "Chat, unary: requests a second",
    "chat_stream": "Chat, streamed: tokens a second",
    "chat_cross": "Frontend against frontend, over the same mock",
    "growth": "How cost grows",
    "first_token": "Time to the first token",
    "frontend_cpu": "CPU time in the frontend",
    "request_plane": "Request plane, Python to Python",
    "metadata_route": "Metadata route of a worker",
    "worker_memory": "Memory of a worker that serves large files",
    "resolve": "From a card to a verified cache, and to a listed model",
    "start": "Start to a listed model",
    "memory": "Memory after load",
    "long_prompts": "Prompts of 60,000 tokens, and short requests beside them",
    "large_fleet": "A large fleet in the registry",
    "idle_cpu": "CPU time of a fleet that nobody asks",
    "discovery": "Registries by themselves",
}
LABELS = {
    "reused_p50_ms": "first token, reused connection, p50 ms",
    "request_us": "frontend CPU, us a request",
    "token_us": "frontend CPU, us a streamed token",
    "paced_token_us": "frontend CPU, us a paced token, own mock",
    "paced_same_mock_token_us": "frontend CPU, us a paced token, same mock",
    "requests_per_s": "request plane, requests/s",
    "items_per_s": "request plane, items/s",
    "turn_items_per_s": "request plane, items/s, a turn each",
    "latency_1_median_us": "request plane, us at 1 in flight",
    "small_c16_requests_s": "metadata route, 400 B file, requests/s",
    "tokenizer_c1_mb_s": "metadata route, 4.4 MB, 1 client, MB/s",
    "tokenizer_c8_mb_s": "metadata route, 4.4 MB, 8 clients, MB/s",
    "few_cold_files_ms": "card to verified cache, cold, ms",
    "few_warm_files_ms": "card to verified cache, warm, ms",
    "eight_listed_ms": "8 frontends on a host, all listed, ms",
    "eight_fetched_mb": "8 frontends on a host, MB fetched",
    "listed_s": "start of both to model listed, s",
    "loaded_frontend_rss_mb": "frontend after load, RSS MB",
    "loaded_frontend_pss_mb": "frontend after load, PSS MB",
    "loaded_worker_rss_mb": "worker after load, RSS MB",
    "loaded_worker_pss_mb": "worker after load, PSS MB",
    "long_per_s": "prompts of 60,000 tokens, requests/s",
    "short_p99_ms": "short requests beside them, p99 ms",
    "idle_percent": "1,000 instances, idle frontend, % of a core",
    "added_ms": "1,000 instances, a model comes, ms",
    "gone_ms": "1,000 instances, a model goes, ms",
}
Report = Mapping[str, Any]


def write_page(results: Path, page: Path) -> None:
    """Write the page, and its pictures into the folder ``figures`` beside it."""
    reports: dict[str, Report] = json.loads(results.read_text())
    folder = page.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, str] = {}
    for name, picture in _pictures(reports).items():
        (folder / f"{name}.svg").write_text(picture)
        shown[name] = f"{folder.name}/{name}.svg"
    page.write_text("\n".join(_page(reports, shown)).rstrip() + "\n")


def _page(reports: Mapping[str, Report], shown: Mapping[str, str]) -> list[str]:
    text = [
        "# Benchmarks",
        "",
        "Muster beside the system it is wire-compatible with (the peer, ai-dynamo), on the same machine",
        "in the same run, in turns (A B A B ...). `make bench` runs every script in its short form and",
        "writes `benchmarks/results/latest.json`, from which this page and its pictures are made;",
        "`python benchmarks/run.py --full` takes all rounds. What is worse than the peer's is here too.",
        "",
        *_conditions(reports),
        "",
        "## What was meant to be reached",
        "",
    ]
    if "ratios" in shown:
        text += [f"![Ratios to the peer, and targets]({shown['ratios']})", ""]
    text += [
        "| figure | Muster | peer | ratio | target | |",
        "|---|---:|---:|---:|---:|---|",
        *(
            _target_row(name, report, each)
            for name, report in reports.items()
            for each in report["targets"]
        ),
        "",
    ]
    for name, report in reports.items():
        text += [f"## {TITLES[name]}", "", *_about(name, report), ""]
        if name == "growth":
            for part in ("growth-connections", "growth-prompts"):
                text += [f"![{TITLES[name]}]({shown[part]})", ""]
        text += [*_figures(report), ""]
    return text


def _conditions(reports: Mapping[str, Report]) -> list[str]:
    one = next(iter(reports.values()))
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    dates = sorted(report["when"][:10] for report in reports.values())
    allocator = (
        "with jemalloc" if one["peer_settings"]["DYN_FRONTEND_JEMALLOC"] else "without jemalloc"
    )
    text = [
        f"- {one['cores']} cores of {one['machine']}, Linux {one['kernel']}, shared by all processes and",
        "  the load generator",
        f"- Python {one['python']}, {versions}; the peer's frontend {allocator}, logs of errors only",
        f"- Measured {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else ""),
    ]
    short = [
        f"{name} ({max(map(len, report['rounds'].values()))})"
        for name, report in reports.items()
        if report.get("short")
    ]
    if short:
        text.append(f"- Short loads, with so many rounds: {', '.join(short)}")
    busy = {
        name: cores for name, report in reports.items() if (cores := _others(report)) > BUSY_CORES
    }
    if busy:
        most = max(busy.values())
        text += [
            "",
            f"**Other work kept up to {most:.1f} cores busy during {', '.join(busy)}: these figures",
            "show that the scripts work, and little more.**",
        ]
    return text


def _others(report: Report) -> float:
    return max((row.get("others_cores", 0.0) for row in report["medians"].values()), default=0.0)


def _target_row(name: str, report: Report, each: Mapping[str, Any]) -> str:
    ours, theirs = ("muster", "peer") if each["absolute"] else each["pair"].split("_to_")
    medians = report["medians"]
    sign = "at least" if each["at_least"] else "at most"
    unit = "" if each["absolute"] else "x"
    ratio = (
        medians[ours][each["key"]] / other if (other := medians[theirs].get(each["key"])) else None
    )
    cells = [
        f"[{_label(each)}](#{_anchor(TITLES[name])})",
        _number(medians[ours].get(each["key"])),
        _number(medians[theirs].get(each["key"])),
        "-" if ratio is None else f"{ratio:.2f}x",
        f"{sign} {each['limit']:g}{unit}",
        "met" if each["met"] else "**missed**",
    ]
    return f"| {' | '.join(cells)} |"


def _label(target: Mapping[str, Any]) -> str:
    """What a target's figure is, in words where there are some for it."""
    key = str(target["key"])
    words = LABELS.get(key) or key.replace("_", " ")
    load = re.fullmatch(r"(unary|stream)_c(\d+)_per_s", key)
    if load:
        unit = "chat requests/s" if load[1] == "unary" else "streamed tokens/s"
        words = f"{unit}, {load[2]} connections"
    over = re.fullmatch(r"\w+?_over_(\w+)_to_\w+_over_\w+", target["pair"])
    return f"{words}, mock of {over[1]}" if over else words


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _about(name: str, report: Report) -> list[str]:
    rounds = max((len(rows) for rows in report["rounds"].values()), default=0)
    text = [f"`benchmarks/{name}.py` says what is measured, and how. Rounds: {rounds}."]
    text.append(f"`{report['command']}` took {report['took_s']} s.")
    if "ceilings" in report:
        found = ", ".join(f"{key} {_number(value)}" for key, value in report["ceilings"].items())
        text.append(f"The load generators against a server that does nothing: {found}.")
    text += [f"Left out: {what}: {why}." for what, why in report["left_out"].items()]
    return ["  \n".join(text)]


def _figures(report: Report) -> list[str]:
    """A table of all medians, with their spreads and the ratios there are."""
    medians, spread = report["medians"], report["spread"]
    ratios = {"muster_to_peer": report["ratio_muster_to_peer"], **report["ratios"]}
    ratios = {name: row for name, row in ratios.items() if row}
    heads = [name.replace("_", " ") for name in [*medians, *ratios]]
    text = [f"| figure | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for key in dict.fromkeys(key for row in medians.values() for key in row):
        cells = [
            _number(row.get(key), spread.get(who, {}).get(key)) for who, row in medians.items()
        ]
        cells += [f"{row[key]:.2f}x" if key in row else "" for row in ratios.values()]
        text.append(f"| {key} | {' | '.join(cells)} |")
    return text


def _number(value: float | None, spread: float | None = None) -> str:
    if value is None:
        return "-"
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} ±{spread * 50:.0f} %" if spread else shown


def _pictures(reports: Mapping[str, Report]) -> dict[str, str]:
    found = {}
    rows = [
        Bar(_label(each), each["value"], each["limit"], each["met"])
        for report in reports.values()
        for each in report["targets"]
        if not each["absolute"]
    ]
    if rows:
        found["ratios"] = bars("Muster / peer, and what was meant to be reached", rows)
    if growth := reports.get("growth"):
        for name, prefix, label in (
            ("connections", "c", "connections"),
            ("prompts", "p", "tokens of the prompt, at 16 connections"),
        ):
            panels = [
                Panel(title, label, _series(growth, kind, prefix))
                for kind, title in (
                    ("unary", "requests/s, unary"),
                    ("stream", "tokens/s, streamed"),
                )
            ]
            found[f"growth-{name}"] = lines(f"Chat over {label}", panels)
    return found


def _series(report: Report, kind: str, prefix: str) -> dict[str, list[tuple[float, float]]]:
    pattern = re.compile(rf"{kind}_{prefix}(\d+)_per_s")
    return {
        who: sorted(
            (float(m[1]), value) for key, value in row.items() if (m := pattern.fullmatch(key))
        )
        for who, row in report["medians"].items()
    }


if __name__ == "__main__":
    where = [Path(word) for word in sys.argv[1:]]
    defaults = [HERE / "results" / "latest.json", HERE.parent / "docs" / "benchmarks.md"]
    write_page(*(where + defaults[len(where) :]))
