"""What ``muster top`` makes of a frontend's stream."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from muster.cli.top_screen import Screen
from muster.cli.top_state import apply_event
from muster.cli.top_text import count, latency, model_rows, notes, spark, summary
from muster.errors import ProtocolError
from muster.frontend.dashboard.events import Event
from muster.frontend.dashboard.traffic import ModelTraffic, Second
from muster.frontend.dashboard.view import (
    CacheView,
    Change,
    CohortView,
    FrontendView,
    ModelView,
    PlaceView,
    Snapshot,
)
from muster.frontend.report import ExclusionReport, FileReport

DIGEST = "ab" * 32
FRONTEND = FrontendView(version="1", started=900.0, status="healthy")
GOOD = ModelView(
    model="good", state="serving",
    cohorts=(CohortView(state="serving", replicas=(PlaceView(instance="1"),)),),
)  # fmt: skip


def snapshot(*models: ModelView, events: int = 1) -> Snapshot:
    return Snapshot(
        at=1000.0,
        frontend=FRONTEND,
        models={str(number): model for number, model in enumerate(models)},
        traffic={"good": ModelTraffic(started=2, ttft_p50=0.03)},
        seconds=tuple(Second(990.0 + n, started=2, tokens=20, active=1) for n in range(10)),
        events=tuple(
            Event(number=n + 1, at=990.0, level="info", what=f"event {n}") for n in range(events)
        ),
    )


def change(**parts: object) -> bytes:
    return msgspec.json.encode(Change(at=1001.0, **parts))  # type: ignore[arg-type]


def test_changes_are_applied_to_a_snapshot() -> None:
    state = apply_event(None, "snapshot", msgspec.json.encode(snapshot(GOOD)))
    assert state == snapshot(GOOD)
    state = apply_event(state, "change", change(seconds=(Second(1001.0, started=9),)))
    assert state is not None
    assert (state.at, len(state.seconds), state.seconds[-1].started) == (1001.0, 11, 9)
    assert state.models == {"0": GOOD}
    state = apply_event(state, "change", change(models={"0": None, "1": GOOD}, traffic={}))
    assert state is not None
    assert (list(state.models), state.traffic) == (["1"], {})


def test_a_change_of_nothing_and_an_unknown_event_are_let_pass() -> None:
    assert apply_event(None, "change", change()) is None
    state = snapshot(GOOD)
    assert apply_event(state, "weather", b"?") is state


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"at": "x"}', b"\xff"])
def test_what_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="'change' cannot be read"):
        apply_event(snapshot(), "change", data)


def test_no_more_than_ten_minutes_and_two_hundred_events_are_kept() -> None:
    state: Snapshot | None = snapshot(GOOD)
    for _ in range(8):
        many = tuple(Second(1001.0) for _ in range(100))
        state = apply_event(
            state, "change", change(seconds=many, events=snapshot(events=50).events)
        )
    assert state is not None
    assert (len(state.seconds), len(state.events)) == (600, 200)


def test_trouble_comes_first_and_says_why() -> None:
    refused = CohortView(
        state="refused", code="incompatible", mdcsum=DIGEST, message=f"{DIGEST} differs",
        differs=("config.json: other bytes",), replicas=(PlaceView(instance="2"),),
    )  # fmt: skip
    mixed = ModelView(
        model="mixed", state="serving", cohorts=(*GOOD.cohorts, refused),
        excluded=(
            ExclusionReport(instance="2", reason="told with its cohort"),
            ExclusionReport(instance="3", reason="it does not answer"),
        ),
    )  # fmt: skip
    retrying = ModelView(
        model="poor", state="retrying", code="source", message="404", attempt=2, retry_at=1007.0,
        cohorts=(CohortView(state="retrying", code="source", message="404"),),
    )  # fmt: skip
    state = snapshot(GOOD, mixed, retrying)
    assert [row[:3] for row in model_rows(state)] == [
        ["poor", "retrying", "0/0"],
        ["mixed", "serving", "1/2"],
        ["good", "serving", "1/1"],
    ]
    text = "\n".join(notes(state))
    assert "mixed card abababababab is refused (incompatible) at 2: abababababab… differs" in text
    assert "  differs in config.json: other bytes" in text
    assert "mixed: 3 gets no requests: it does not answer" in text
    assert "told with its cohort" not in text
    assert "attempt 2 failed; the next one is in 7 s" in text


def test_the_whole_in_lines() -> None:
    lines = summary(snapshot(GOOD))
    assert lines[0] == "healthy, up 1m, version 1, 1 of 1 models served"
    assert lines[1] == "2 requests/s, 20 tokens/s, 1 in flight, first token -"
    stale = msgspec.structs.replace(FRONTEND, stale_since=880.0, stale_reason="refused")
    full = CacheView(path="/c", files=2, size_bytes=2048, max_bytes=4096)
    state = msgspec.structs.replace(snapshot(GOOD), frontend=stale, cache=full)
    text = "\n".join(summary(state))
    assert "the registry has been out of reach for 2m: refused" in text
    assert "cache /c: 2 files, 2.0 KiB of 4.0 KiB" in text


@pytest.mark.parametrize(
    ("running", "wanted", "said"),
    [(1, 1, ""), (4, 4, ", 4 processes"), (3, 4, ", 3 of 4 processes")],
)
def test_a_frontend_of_several_processes_says_how_many_run(
    running: int, wanted: int, said: str
) -> None:
    several = msgspec.structs.replace(FRONTEND, processes=running, process_count=wanted)
    line = summary(msgspec.structs.replace(snapshot(GOOD), frontend=several))[0]
    assert line == f"healthy, up 1m, version 1{said}, 1 of 1 models served"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.4, "0.4"), (12.0, "12"), (123.4, "123"), (12345, "12.3k")]
)
def test_counts(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0036, "3.6 ms"), (0.12, "120 ms"), (2.25, "2.2 s")]
)
def test_latencies(seconds: float | None, text: str) -> None:
    assert latency(seconds) == text


def test_bars_are_of_the_last_values_against_their_highest() -> None:
    assert spark([9, 0, 1, 2], 3) == "▁▄█"
    assert spark([0, 0], 5) == "▁▁"
    assert spark([], 5) == ""


@pytest.mark.parametrize(("width", "height"), [(120, 40), (60, 20), (40, 12), (20, 6)])
def test_the_screen_is_never_higher_than_the_terminal(width: int, height: int) -> None:
    fetching = ModelView(
        model="evil\x1b[31m", state="fetching",
        files=(FileReport(name="t", role="tokenizer", digest="x", state="fetching"),),
        cohorts=(CohortView(state="fetching", message="long " * 30),),
    )  # fmt: skip
    state = snapshot(GOOD, *[fetching] * 30, events=50)
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    lines = console.render_lines(Screen(state, "http://x", "lost"), pad=False)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert len(lines) <= height
    assert "lost" in text
    assert "\x1b" not in text
    assert "muster" in text
