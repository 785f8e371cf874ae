"""The dashboard's files: all are served, and none asks for anything from elsewhere."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from muster.frontend.dashboard.assets import _TYPES

STATIC = resources.files("muster.frontend.dashboard") / "static"
NAMES = sorted(each.name for each in STATIC.iterdir())


def test_every_file_has_a_type_and_every_type_a_file() -> None:
    assert sorted(_TYPES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere_or_is_within_the_page(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    elsewhere = set(re.findall(r"""https?://[^\s"'<>]+""", text)) - {"http://www.w3.org/2000/svg"}
    assert elsewhere == set()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|innerHTML", text)


def test_what_is_imported_is_there() -> None:
    for name in NAMES:
        text = (STATIC / name).read_text("utf-8")
        for wanted in re.findall(r"""from "\./([^"]+)"|(?:src|href)="dashboard/([^"]+)""", text):
            assert set(wanted) & set(NAMES), (name, wanted)
