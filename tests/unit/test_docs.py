"""What the hand-written pages say exists: links, settings, options, files."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import pytest

from muster import errors
from muster.cli.main import cli
from muster.config.setting import iter_settings
from muster.config.settings import Settings
from muster.model.catalog.reason import Reason
from muster.model.catalog.status import ModelState

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "docs/reference" not in path.as_posix()
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_VARIABLE = re.compile(r"\b(?:MUSTER|DYN)_[A-Z0-9_]+[A-Z0-9]\b")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
_OUR_FILE = re.compile(r"\b(?:src|tests|benchmarks|docs)/[\w./-]*\w\.(?:py|md|svg|lua)\b")


def _text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _known_variables() -> set[str]:
    """Every variable that a setting reads."""
    groups: list[Any] = [
        field.default_factory for field in dataclasses.fields(Settings) if field.name != "origins"
    ]
    return {info.env for group in groups for _, info, _ in iter_settings(group)}


def _commands(group: click.Group = cli, path: str = "muster") -> dict[str, set[str]]:
    """Every command by its full name, with its options."""
    context = click.Context(group)
    found: dict[str, set[str]] = {path: {"--help", "--version"}}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= _commands(command, f"{path} {name}")
        found[f"{path} {name}"] = {
            option for each in command.params for option in (*each.opts, *each.secondary_opts)
        }
    return found


@pytest.mark.parametrize("page", WRITTEN)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    broken = []
    for target in _LINK.findall(_text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in _anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", WRITTEN)
def test_every_setting_a_page_names_exists(page: str) -> None:
    known = _known_variables() | {"MUSTER_CONFIG"}
    assert not set(_VARIABLE.findall(_text(page))) - known


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.startswith("docs/")])
def test_every_option_of_ours_a_page_names_exists(page: str) -> None:
    known = {option for options in _commands().values() for option in options}
    ours = [
        code
        for code in [*_CODE.findall(_text(page)), *_blocks(_text(page))]
        if code.startswith(("muster ", "--"))
    ]
    named = {option for code in ours for option in _OPTION.findall(code)}
    assert not named - known


def _blocks(text: str) -> list[str]:
    """The lines of a page's blocks of shell, without prompts."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", WRITTEN)
def test_every_command_of_ours_a_page_names_exists(page: str) -> None:
    known = _commands()
    commands = {
        match[1]
        for code in [*_CODE.findall(_text(page)), *_blocks(_text(page))]
        if (match := re.match(r"muster ((?:cache |model )?[a-z]+)\b", code))
    }
    assert not {command for command in commands if f"muster {command}" not in known}


@pytest.mark.parametrize("page", WRITTEN)
def test_every_file_of_the_repository_a_page_names_exists(page: str) -> None:
    named = set(_OUR_FILE.findall(_text(page)))
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_concept_lists_every_state_in_order() -> None:
    section = _text("docs/concepts/metadata.md").partition("## When it does not work")[2]
    listed = re.findall(r"^\| `([a-z_]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert listed == [state.value for state in ModelState]


@pytest.mark.parametrize("page", WRITTEN)
def test_every_reason_code_a_page_names_exists(page: str) -> None:
    known = {reason.value for reason in Reason} | {
        getattr(errors, name).code for name in errors.__all__
    }
    named = re.findall(r"reason\s+code\s+`([^`]+)`", _text(page))
    assert not set(named) - known


def test_the_index_names_every_page() -> None:
    index = _text("docs/README.md")
    listed = {(ROOT / "docs" / target).resolve() for target in _LINK.findall(index)}
    there = {path.resolve() for path in (ROOT / "docs").rglob("*.md")}
    decisions = {path for path in there if path.parent.name == "decisions"}
    assert not there - listed - decisions - {(ROOT / "docs" / "README.md").resolve()}


@pytest.mark.parametrize(
    "picture", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.svg"))
)
def test_a_picture_is_readable_on_light_and_dark_pages(picture: str) -> None:
    tree = ET.fromstring(_text(picture))  # our own file
    first = tree.find("{http://www.w3.org/2000/svg}rect")
    assert first is not None
    assert first.get("fill") == "#ffffff"
    assert (first.get("width"), first.get("height")) == (tree.get("width"), tree.get("height"))
    assert tree.find("{http://www.w3.org/2000/svg}title") is not None
