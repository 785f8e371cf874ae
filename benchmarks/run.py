"""Every benchmark of the suite, one after the other; tables as they come, JSON and a page at the end.

    python benchmarks/run.py [--peer DIR] [--shared DIR] [--full] [--rounds N] [--only NAME,NAME] [--list]

The short form is one round of short loads: it shows that everything works, and what is far off.
``--full`` runs each script as it runs by itself. ``--only`` runs some; what the file of results has
of the others stays, and so does what a script that fails had before. ``--list`` says what would be
run, and about how long it would take. The README's figures are written too, unless ``--out`` names
another file of results. The peer is taken from ``PEER`` (``.peer`` by default) and the
model from ``../shared``; nothing is run where either is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from page import write_page
from readme import write_figures

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "latest.json"
_SLACK = 5
"""A script that takes so many times as long as it should is ended."""


class Script(NamedTuple):
    """A script of the suite.

    Attributes:
        short_s: About what a short round takes on two cores, in seconds.
        full_s: The same of a full one.
        wrk: Whether it needs the load generator wrk.
        once_s: What it takes beside its rounds.
    """

    short_s: int
    full_s: int
    wrk: bool = False
    once_s: int = 1

    def seconds(self, rounds: int, *, full: bool) -> int:
        """About how long it takes."""
        return self.once_s + rounds * (self.full_s if full else self.short_s)


SUITE = {
    "chat_unary": Script(31, 64, wrk=True, once_s=5),
    "chat_stream": Script(31, 64, wrk=True, once_s=5),
    "chat_cross": Script(80, 140, wrk=True),
    "growth": Script(84, 180, wrk=True),
    "first_token": Script(15, 45),
    "frontend_cpu": Script(51, 85, wrk=True),
    "request_plane": Script(22, 22, once_s=15),
    "metadata_route": Script(38, 68, wrk=True, once_s=6),
    "worker_memory": Script(33, 45, wrk=True, once_s=3),
    "resolve": Script(27, 27, once_s=5),
    "start": Script(4, 4, once_s=4),
    "memory": Script(27, 65, wrk=True),
    "long_prompts": Script(29, 75),
    "large_fleet": Script(39, 240),
    "idle_cpu": Script(52, 85),
    "discovery": Script(13, 13),
}
"""The scripts in the order of the page."""


def run(name: str, arguments: Sequence[str], limit_s: float) -> dict[str, Any]:
    """The report a script prints.

    Raises:
        RuntimeError: It failed, printed something else, or was ended after ``limit_s``.
    """
    began = time.monotonic()
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as script:
        try:
            printed, _ = script.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"ended after {limit_s:.0f} s") from None
        finally:
            script.terminate()  # it stops what it started; nothing, where it has ended
    if script.returncode:
        raise RuntimeError(f"exit status {script.returncode}")
    try:
        return {**json.loads(printed), "took_s": round(time.monotonic() - began)}
    except ValueError as error:
        raise RuntimeError(f"that is no report: {error}") from error


def main() -> int:
    options = parse()
    names = options.only.split(",")
    rounds = options.rounds or (5 if options.full else 1)
    expected = {name: SUITE[name].seconds(rounds, full=options.full) for name in names}
    if options.list:
        print("\n".join(f"{name:<16}{clock(expected[name]):>8}" for name in names))
        print(f"{'all':<16}{clock(sum(expected.values())):>8}")
        return 0
    if not (options.peer / "bin" / "python").exists() or not options.shared.is_dir():
        say(f"nothing is run: no peer at {options.peer}, or no {options.shared}")
        return 1
    arguments = ["--peer", str(options.peer), "--shared", str(options.shared)]
    arguments += [] if options.full else ["--short"]
    arguments += ["--rounds", str(options.rounds)] if options.rounds else []
    began, failed = time.monotonic(), []
    for number, name in enumerate(names, 1):
        if SUITE[name].wrk and not shutil.which("wrk"):
            say(f"left out: {name}: no wrk (Debian package wrk)")
            continue
        left = sum(expected[each] for each in names[number - 1 :])
        gone = clock(time.monotonic() - began)
        say(f"== {number}/{len(names)} {name}, about {clock(expected[name])}; gone: {gone}, ")
        say(f"   left: about {clock(left)} ({', '.join(names[number:]) or 'nothing else'})")
        try:
            report = run(name, arguments, 120 + _SLACK * expected[name])
        except RuntimeError as error:
            say(f"failed: {name}: {error}")
            failed.append(name)
            continue
        say(f"   {name} took {clock(report['took_s'])}")
        keep(options.out, name, report)
    if options.out.exists() and options.page:
        write_page(options.out, options.page)
    if options.out == RESULTS:
        write_figures(options.out, ROOT / "README.md")
    say(f"{clock(time.monotonic() - began)} in all; the results are in {options.out}")
    if failed:
        say(f"failed: {', '.join(failed)}: again with --only {','.join(failed)}")
    return len(failed)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, default=Path(os.environ.get("PEER") or ".peer"))
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of results")
    parser.add_argument("--page", type=Path, help="docs/benchmarks.md, if --out is not given")
    parser.add_argument("--full", action="store_true", help="as each script runs by itself")
    parser.add_argument("--rounds", type=int, help="of each script, instead of its own number")
    parser.add_argument("--only", default=",".join(SUITE), help="names, with commas between")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    options = parser.parse_args()
    if options.out == RESULTS and not options.page:
        options.page = ROOT / "docs" / "benchmarks.md"
    if unknown := [name for name in options.only.split(",") if name not in SUITE]:
        parser.error(f"no such script: {', '.join(unknown)}; there are {', '.join(SUITE)}")
    return options


def keep(results: Path, name: str, report: dict[str, Any]) -> None:
    """Put a report in the place of the one there was; the others stay."""
    results.parent.mkdir(parents=True, exist_ok=True)
    reports = json.loads(results.read_text()) if results.exists() else {}
    reports[name] = report
    beside = results.with_suffix(".new")
    ordered = {each: reports[each] for each in SUITE if each in reports}
    beside.write_text(json.dumps(ordered, indent=1) + "\n")
    beside.rename(results)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
