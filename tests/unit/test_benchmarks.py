"""The figures that are committed, the pages made from them, and how CPU time is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page import write_page
from readme import figures_in, figures_text, write_figures
from run import SUITE, keep
from usage import cpu_seconds
from words import CONDITIONS, HEADLINES, TITLES, figure

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"


def _reports() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text("utf-8")))


def test_the_figures_in_the_readme_are_those_of_the_latest_results() -> None:
    assert figures_in((ROOT / "README.md").read_text("utf-8")) == figures_text(_reports())


def test_the_page_is_what_the_latest_results_and_the_scripts_make(tmp_path: Path) -> None:
    write_page(RESULTS, tmp_path / "benchmarks.md")
    made = {
        path.relative_to(tmp_path): path.read_text("utf-8")
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert made == {path: (ROOT / "docs" / path).read_text("utf-8") for path in made}


def test_every_figure_of_the_latest_results_has_words() -> None:
    for name, report in _reports().items():
        for row in report["medians"].values():
            for key in row:
                assert key.endswith(CONDITIONS) or figure(name, key).measure


def test_every_script_of_the_suite_has_a_title_and_a_figure_that_stands_for_it() -> None:
    assert list(SUITE) == list(TITLES) == list(HEADLINES)
    for name, report in _reports().items():
        assert any(HEADLINES[name] in row for row in report["medians"].values())


def test_a_figure_nobody_has_words_for_is_an_error() -> None:
    with pytest.raises(KeyError, match="start: unheard_of_s"):
        figure("start", "unheard_of_s")


def test_what_is_outside_the_marks_of_the_readme_stays(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    begin, end = "<!-- figures: written by benchmarks/page.py -->", "<!-- end of figures -->"
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n", "utf-8")
    write_figures(RESULTS, readme)
    text = readme.read_text("utf-8")
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"\n{end}\nafter\n")
    assert figures_in(text) == figures_text(_reports())


def test_a_new_report_takes_the_place_of_its_own_and_of_no_other(tmp_path: Path) -> None:
    results = tmp_path / "results" / "latest.json"
    keep(results, "start", {"round": 1})
    keep(results, "growth", {"round": 1})
    keep(results, "start", {"round": 2})
    assert json.loads(results.read_text()) == {"growth": {"round": 1}, "start": {"round": 2}}


def test_cpu_time_of_children_counts_while_they_run_and_when_they_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\n"
    wait = f"{burn}import sys; sys.stdin.read()\n"
    parent = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {burn!r}], check=True)
living = subprocess.Popen([sys.executable, "-c", {wait!r}])
living.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == [b"burnt\n"] * 2
        assert cpu_seconds(process) >= 0.55
