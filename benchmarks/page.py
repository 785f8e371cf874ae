"""The page of figures and its pictures, from the file of results and nothing else.

What each section says of how it is measured is the docstring of its script.

    python benchmarks/page.py [RESULTS [PAGE [README]]]
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pictures import Bar, Panel, bars, lines
from readme import write_figures
from words import (
    CONDITIONS,
    HEADLINES,
    SYSTEMS,
    TITLES,
    figure,
    mock_words,
    number,
    target_words,
    times,
)

__all__ = ["write_page"]

HERE = Path(__file__).resolve().parent
BUSY_CORES = 0.25
READING = """\
Every figure is the median of the rounds; `±` is half of what lies between the least and the greatest
round, in percent of the median. A ratio is Muster's figure over the peer's: of rates more than 1 is
better for Muster, of times, CPU and memory less. Systems take turns within a round, and the order is
turned around in every other round.

Units: µs is 10^-6 s and MB are 10^6 bytes, of memory 2^20. CPU is user and system time of a process
with its children, divided by the requests or streamed tokens that were answered meanwhile. p50 and
p99 are percentiles of all requests of a round. The last column is the name of the figure in
`benchmarks/results/latest.json`, which has every round.

Targets count one frontend process of Muster. **Muster x2** is the same frontend with
`--processes 2`: two processes on one port. A Muster process is one Python interpreter and uses one
core and a little of another; the peer's frontend is native code with a thread for each core. On two
cores that load generator and mock share, both may be asked for, so both are shown; rows of two
processes say so."""
Report = Mapping[str, Any]
Reports = Mapping[str, Report]


def write_page(results: Path, page: Path) -> None:
    """Write the page, and its pictures into the folder ``figures`` beside it."""
    reports: Reports = json.loads(results.read_text())
    folder = page.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, str] = {}
    for name, picture in _pictures(reports).items():
        (folder / f"{name}.svg").write_text(picture)
        shown[name] = f"{folder.name}/{name}.svg"
    page.write_text("\n".join(_page(reports, shown)).rstrip() + "\n")


def _page(reports: Reports, shown: Mapping[str, str]) -> list[str]:
    text = [
        "# Benchmarks",
        "",
        "Muster beside the system it is wire-compatible with (the peer, ai-dynamo), on the same machine",
        "in the same run, in turns. What is worse than the peer's is here too.",
        "",
        *_count(reports),
        "",
        "| | one figure of it | Muster | peer | ratio | targets met |",
        "|---|---|---:|---:|---:|---:|",
        *(_glance(name, report) for name, report in reports.items()),
        "",
        *_missed(reports),
        "How it was measured:",
        "",
        *_conditions(reports),
        "",
        "`make bench` runs every script in its short form, writes `benchmarks/results/latest.json` and from",
        "that this page and its pictures; `python benchmarks/run.py --full` takes all rounds.",
        "",
        "## How to read it",
        "",
        READING,
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
        text += [*_figures(name, report), ""]
    return text


def _count(reports: Reports) -> list[str]:
    """How many targets are met."""
    every = [each for report in reports.values() for each in report["targets"]]
    one = [each["met"] for each in every if "_x2" not in each["pair"]]
    two = [each["met"] for each in every if "_x2" in each["pair"]]
    count = f"**{sum(one)} of {len(one)} targets are met**"
    if two:
        count += f", and {sum(two)} of {len(two)} of those with `--processes 2`"
    return [f"{count}; what was missed is named below the table."]


def _missed(reports: Reports) -> list[str]:
    """A line for each target of one process that is missed."""
    found = [
        f"- [{target_words(name, report, each)}](#{_anchor(TITLES[name])}): {each['value']:.2f}"
        f"{'' if each['absolute'] else ' times the peer'}, meant to be "
        f"{'at least' if each['at_least'] else 'at most'} {each['limit']:g}"
        for name, report in reports.items()
        for each in report["targets"]
        if not each["met"] and "_x2" not in each["pair"]
    ]
    return ["Missed:", "", *found, ""] if found else []


def _glance(name: str, report: Report) -> str:
    """The script's line in the first table, which leads to its section."""
    key = HEADLINES[name]
    over = "_over_muster" if name == "chat_cross" else ""
    ours, theirs = (report["medians"][f"{who}{over}"].get(key) for who in ("muster", "peer"))
    targets = [each for each in report["targets"] if "_x2" not in each["pair"]]
    cells = [
        f"[{TITLES[name]}](#{_anchor(TITLES[name])})",
        f"{figure(name, key)}{', ' + mock_words('muster') if over else ''}",
        number(ours),
        number(theirs),
        times(ours / theirs) if ours is not None and theirs else "-",
        f"{sum(each['met'] for each in targets)} of {len(targets)}" if targets else "",
    ]
    return f"| {' | '.join(cells)} |"


def _conditions(reports: Reports) -> list[str]:
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
    for short, words in ((True, "Short loads"), (False, "Loads in full")):
        found = [
            f"{name} ({max(map(len, report['rounds'].values()))})"
            for name, report in reports.items()
            if bool(report.get("short")) is short
        ]
        if found:
            text.append(f"- {words}, with so many rounds: {', '.join(found)}")
    busy = {
        name: cores
        for name, report in reports.items()
        if (cores := _greatest(report, "others_cores")) > BUSY_CORES
    }
    if busy:
        text += [
            "",
            f"**Other work kept up to {max(busy.values()):.1f} cores busy during {', '.join(busy)}: these figures",
            "show that the scripts work, and little more.**",
        ]
    return text


def _greatest(report: Report, end: str) -> float:
    """The greatest median of all figures whose names end so; 0 where there is none."""
    return max(
        (
            value
            for row in report["medians"].values()
            for key, value in row.items()
            if key.endswith(end)
        ),
        default=0.0,
    )


def _target_row(name: str, report: Report, each: Mapping[str, Any]) -> str:
    ours, theirs = ("muster", "peer") if each["absolute"] else each["pair"].split("_to_")
    medians = report["medians"]
    sign = "at least" if each["at_least"] else "at most"
    unit = "" if each["absolute"] else "x"
    ratio = (
        medians[ours][each["key"]] / other if (other := medians[theirs].get(each["key"])) else None
    )
    cells = [
        f"[{target_words(name, report, each)}](#{_anchor(TITLES[name])})",
        number(medians[ours].get(each["key"])),
        number(medians[theirs].get(each["key"])),
        "-" if ratio is None else times(ratio),
        f"{sign} {each['limit']:g}{unit}",
        "met" if each["met"] else "**missed**",
    ]
    return f"| {' | '.join(cells)} |"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _about(name: str, report: Report) -> list[str]:
    """What the script says of itself, and how it was run."""
    rounds = max((len(rows) for rows in report["rounds"].values()), default=0)
    ran = [f"`{report['command']}` took {report['took_s']} s; rounds: {rounds}."]
    if "instances" in report:
        ran.append(f"Here: {report['instances']:,} instances of {report['models']:,} models.")
    if "ceilings" in report:
        found = ", ".join(
            f"{who} {number(report['ceilings'][f'{who}_{kind}_per_s'])} {unit}/s"
            for kind, unit in (("unary", "requests"), ("stream", "streamed tokens"))
            for who in ("wrk", "client")
        )
        ran.append(f"The load generators against a server that does nothing: {found}.")
    client, late = _greatest(report, "client_cores"), _greatest(report, "late_p99_ms")
    if client:
        ran.append(f"The load generator used at most {client:.2f} cores.")
    if late:
        ran.append(
            f"Where requests have times of their own, it wrote 1 % of them {late:.1f} ms late."
        )
    ran.append(f"Others kept {_greatest(report, 'others_cores'):.2f} cores busy.")
    ran += [f"Left out: {what}: {why}." for what, why in report["left_out"].items()]
    return [*_docstring(HERE / f"{name}.py"), "", "  \n".join(ran)]


def _docstring(script: Path) -> list[str]:
    """The script's docstring as Markdown, but for the line that says how it is called.

    Options stand without marks: those of scripts are no options of ours.
    """
    said = ast.get_docstring(ast.parse(script.read_text())) or ""
    paragraphs = [each for each in said.split("\n\n") if not each.startswith("    ")]
    text = re.sub(r"``(--[^`]*)``", r"\1", "\n\n".join(paragraphs))
    return text.replace("``", "`").splitlines()


def _figures(name: str, report: Report) -> Iterator[str]:
    """Tables of all medians, with their spreads and the ratios there are; one for each mock."""
    mocks = list(dict.fromkeys(who.partition("_over_")[2] for who in report["medians"]))
    for mock in mocks:
        end = f"_over_{mock}" if mock else ""
        whole = [who for who in report["medians"] if who.partition("_over_")[2] == mock]
        if mock:
            yield from (f"### Over {mock_words(mock)}", "")
        if name == "growth":
            yield from ("<details><summary>All figures</summary>", "")
        yield from _table(name, report, whole, end)
        if name == "growth":
            yield from ("", "</details>")
        yield ""


def _table(name: str, report: Report, systems: list[str], end: str) -> Iterator[str]:
    """One table: a line for each load, with its figures below."""
    medians, spread = report["medians"], report["spread"]
    every = {"muster_to_peer": report["ratio_muster_to_peer"], **report["ratios"]}
    ratios = {
        pair: row for pair, row in every.items() if row and set(pair.split("_to_")) <= set(systems)
    }
    heads = [SYSTEMS[who.removesuffix(end)] for who in systems]
    for pair in ratios:
        ours, theirs = (SYSTEMS[who.removesuffix(end)] for who in pair.split("_to_"))
        heads.append(f"{ours} / {theirs}")
    yield f"| | {' | '.join(heads)} | |"
    yield f"|---|{'---:|' * len(heads)}---|"
    group = ""
    for key in dict.fromkeys(key for who in systems for key in medians[who]):
        if key.endswith(CONDITIONS):
            continue
        words = figure(name, key)
        if words.group != group:
            group = words.group
            yield f"| **{group}** |{' |' * (len(heads) + 1)}"
        cells = [number(medians[who].get(key), spread[who].get(key)) for who in systems]
        cells += [times(row[key]) if key in row else "" for row in ratios.values()]
        yield f"| {words.measure} | {' | '.join(cells)} | `{key}` |"


def _pictures(reports: Reports) -> dict[str, str]:
    found = {}
    rows = [
        Bar(target_words(name, report, each), each["value"], each["limit"], each["met"])
        for name, report in reports.items()
        for each in report["targets"]
        if not each["absolute"]
    ]
    if rows:
        found["ratios"] = bars("Muster / peer, and what was meant to be reached", rows)
    if growth := reports.get("growth"):
        for name, prefix, label, logarithmic in (
            ("connections", "c", "connections", False),
            ("prompts", "p", "tokens of the prompt, at 16 connections", True),
        ):
            panels = [
                Panel(title, label, _series(growth, kind, prefix), logarithmic)
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
    defaults = [
        HERE / "results" / "latest.json",
        HERE.parent / "docs" / "benchmarks.md",
        HERE.parent / "README.md",
    ]
    results, page, readme = where + defaults[len(where) :]
    write_page(results, page)
    write_figures(results, readme)
