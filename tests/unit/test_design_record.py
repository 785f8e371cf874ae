from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_every_test_named_in_the_design_record_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (TESTS / "design_record.md").read_text("utf-8")))
    there = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), flags=re.MULTILINE)
    }
    assert sorted(named - there) == []
