"""Cards that name parsers nobody knows: served, and said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from muster.cli.model_why import story
from muster.discovery.memory import MemoryRegistry
from muster.frontend.report import FleetReport
from muster.model.runtime_config import ModelRuntimeConfig
from muster.testing.fleet import frontend, serve, worker
from muster.testing.loops import run


def test_a_parser_nobody_knows_is_said_once_and_the_model_served_as_text(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ModelRuntimeConfig(tool_call_parser="tomorrow", reasoning_parser="morgen")
    notes = [
        "the tool call parser 'tomorrow' is not known: tool calls come out as text",
        "the reasoning parser 'morgen' is not known: reasoning comes out as text",
    ]

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model, runtime_config=config)
            await site.listed("tiny")
            _, content = await site.get("/v1/muster/models")
            (report,) = msgspec.convert(content, FleetReport).models
            assert (report.state, list(report.notes)) == ("serving", notes)
            assert [line for line in story(report) if "note:" in line] == [
                f"  note: {note}" for note in notes
            ]
            assert await site.echo("<think>a</think>b") == "<think>a</think>b"
            events = site.fleet.journal.events.after(0)
            assert [event.detail for event in events if event.what == "note"] == notes

    run(scenario())
    warned = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [text for text in warned if "parser" in text] == [
        f"model served without: {note}" for note in notes
    ]


def test_of_parsers_that_are_known_nothing_is_said(model: Path, tmp_path: Path) -> None:
    config = ModelRuntimeConfig(tool_call_parser="hermes", reasoning_parser="qwen3")

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model, runtime_config=config)
            await site.listed("tiny")
            _, content = await site.get("/v1/muster/models")
            (report,) = msgspec.convert(content, FleetReport).models
            assert report.notes == ()

    run(scenario())
