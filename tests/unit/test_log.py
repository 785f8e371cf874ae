"""Logging: which lines come out, and what is in them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster import log
from muster.errors import ConfigError
from muster.log.filters import LEVELS, OFF, Filters, parse_filters, read_filters
from muster.log.formats import RESERVED, JsonFormatter, TextFormatter
from muster.testing.loops import run
from muster.trace import TraceContext

KEYS = ["time", "level", "file", "line", "target", "message"]
TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7")


@pytest.fixture
def _own_log() -> Iterator[None]:
    """The process's logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    log.configure()
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str = "said", level: int = logging.INFO, /, **facts: Any) -> logging.LogRecord:
    made = logging.LogRecord("muster.x", level, "/src/x.py", 7, message, (), None)
    made.__dict__.update(log.facts(**facts))
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    values: dict[str, Any] = json.loads(line)
    return values


# -- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level", "targets"),
    [
        ("debug", logging.DEBUG, {}),
        ("TRACE", log.TRACE, {}),
        ("Warning", logging.WARNING, {}),
        ("off", OFF, {}),
        ("", None, {}),
        (" , ", None, {}),
        ("info,debug", logging.DEBUG, {}),
        ("muster.wire", None, {"muster.wire": log.TRACE}),
        ("hyper::x", None, {"hyper.x": log.TRACE}),
        (
            "info, muster.wire = debug ,hyper::x=off",
            logging.INFO,
            {"muster.wire": logging.DEBUG, "hyper.x": OFF},
        ),
        ("a=info,a=error", None, {"a": logging.ERROR}),
        ("my-lib_2=warn", None, {"my-lib_2": logging.WARNING}),
    ],
)
def test_filters_are_read_as_rust_writes_them(
    text: str, level: int | None, targets: dict[str, int]
) -> None:
    assert parse_filters(text) == Filters(level=level, targets=targets)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("info,a=loud", "unknown level 'loud' in 'a=loud' of DYN_LOG"),
        ("a=", "unknown level '' in 'a='"),
        ("=info", "'=info' of DYN_LOG names no target"),
        ("wran", "unknown level 'wran' in DYN_LOG; is it warn?"),
        ("info,dbug", "is it debug?"),
        ("a[span{x=1}]=debug", "names no target"),
        ("a:b=info", "'a:b=info' of DYN_LOG names no target"),
        ("two words", "'two words' of DYN_LOG names no target"),
    ],
)
def test_a_part_that_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filters(text, where="DYN_LOG")
    assert words in caught.value.message
    assert "error, warn, info, debug, trace, off" in caught.value.hint


@given(st.text())
def test_any_filter_is_read_or_refused(text: str) -> None:
    try:
        filters = parse_filters(text)
    except ConfigError:
        return
    assert {filters.level, *filters.targets.values()} <= {None, *LEVELS.values()}


def test_a_file_has_a_level_and_filters(tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text('log_level = "error"\n[log_filters]\n"a::b" = "info"\nc = "TRACE"\n')
    assert read_filters(path) == Filters(
        level=logging.ERROR, targets={"a.b": logging.INFO, "c": log.TRACE}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log_level = ", "cannot read"),
        ('level = "info"', "unknown setting level in"),
        ("log_level = 3", "log_level is no text"),
        ('log_filters = "info"', "log_filters no table"),
        ('[log_filters]\na = "loud"', "unknown level 'loud' in a = 'loud'"),
        ("[log_filters]\na = 3", "unknown level 3"),
        ('[log_filters]\n"a b" = "info"', "names no target"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "log.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_filters(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml"):
        read_filters(tmp_path / "none.toml")


# -- what comes out --------------------------------------------------------------------------


def said(captured: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rpartition("  ")[2] for line in captured.readouterr().err.splitlines()]


@pytest.mark.usefixtures("_own_log")
def test_the_most_specific_filter_wins_whether_noisier_or_quieter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure(filter="error,t.a=debug,t.a.b=off,t.c=trace", colour=False)
    logging.getLogger("t").warning("t warn")
    logging.getLogger("t").error("t error")
    logging.getLogger("t.a.x").debug("t.a.x debug")
    logging.getLogger("t.a").log(log.TRACE, "t.a trace")
    logging.getLogger("t.a.b.c").critical("t.a.b.c critical")
    logging.getLogger("t.c").log(log.TRACE, "t.c trace")
    assert said(capsys) == ["t error", "t.a.x debug", "t.c trace"]


@pytest.mark.usefixtures("_own_log")
def test_configuring_again_forgets_the_filters_before(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(filter="t.a=debug,t.b=error", colour=False)
    log.configure(filter="info,t.b=warn", colour=False)
    logging.getLogger("t.a").debug("a debug")
    logging.getLogger("t.b").warning("b warn")
    assert said(capsys) == ["b warn"]


@pytest.mark.usefixtures("_own_log")
def test_a_wrong_filter_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(filter="debug", colour=False)
    with pytest.raises(ConfigError):
        log.configure(filter="error,t=loud")
    logging.getLogger("t").debug("still said")
    assert said(capsys) == ["still said"]


@pytest.mark.usefixtures("_own_log")
def test_the_filter_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.toml"
    path.write_text('log_level = "error"\n[log_filters]\n"t::a" = "off"\n"t::b" = "off"\n')
    log.configure(file=path, filter="t.b=info", colour=False)
    logging.getLogger("t").warning("t warn")
    logging.getLogger("t.a").error("t.a error")
    logging.getLogger("t.b").info("t.b info")
    assert said(capsys) == ["t.b info"]


@pytest.mark.usefixtures("_own_log")
def test_the_end_of_spans_is_logged_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(span_events=True, colour=False)
    logging.getLogger(log.SPAN_TARGET).debug("span closed")
    logging.getLogger("t").debug("other")
    assert said(capsys) == ["span closed"]


SCRIPT = "import logging; from muster import log; log.configure(); logging.warning('hello')"


def test_a_file_gets_no_colour() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE, timeout=30, check=True
    )
    assert b"WARN  root  hello" in done.stderr
    assert b"\x1b" not in done.stderr


def test_a_terminal_gets_colour() -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, timeout=30, check=True)
        line = os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"\x1b[33mWARN \x1b[0m \x1b[2mroot\x1b[0m  hello" in line


# -- what is in a line -----------------------------------------------------------------------


def test_a_json_line_has_the_peers_keys_first() -> None:
    values = as_json(record(model="m"))
    assert [*values] == [*KEYS, "model"]
    assert values["file"] == "/src/x.py"
    assert (values["line"], values["target"], values["message"]) == (7, "muster.x", "said")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (logging.CRITICAL, "ERROR"),
        (logging.ERROR, "ERROR"),
        (logging.WARNING, "WARN"),
        (25, "INFO"),
        (logging.INFO, "INFO"),
        (logging.DEBUG, "DEBUG"),
        (log.TRACE, "TRACE"),
    ],
)
def test_levels_are_spelt_as_the_peer_does(number: int, name: str) -> None:
    assert as_json(record("said", number))["level"] == name
    assert f"Z {name:<5} muster.x  said" in TextFormatter().format(record("said", number))


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_a_fact_never_overwrites_a_key_of_the_line(key: str) -> None:
    plain, values = as_json(record()), as_json(record(**{key: "mine"}))
    assert values.pop(f"fact.{key}") == "mine"
    assert [*values] == KEYS
    assert {k: v for k, v in values.items() if k != "time"} == {
        k: v for k, v in plain.items() if k != "time"
    }


def test_lines_in_a_scope_carry_the_request_and_its_span() -> None:
    with log.bind(request_id="r1", trace=TRACE, span_name="s", worker_id=5):
        values, text = as_json(record(model="m")), TextFormatter().format(record(model="m"))
    carried = {
        "trace_id": TRACE.trace_id,
        "span_id": TRACE.span_id,
        "parent_id": TRACE.parent_id,
        "span_name": "s",
        "request_id": "r1",
        "worker_id": 5,
    }
    assert {key: values[key] for key in carried} == carried
    assert all(f" {key}={value}" in text for key, value in {**carried, "model": "m"}.items())
    assert [*as_json(record())] == KEYS


def test_a_fact_that_contradicts_the_scope_is_kept_beside_it() -> None:
    with log.bind(request_id="r1"):
        assert as_json(record(request_id="r1"))["request_id"] == "r1"
        values = as_json(record(request_id="r2", trace_id="t"))
    assert (values["request_id"], values["fact.request_id"]) == ("r1", "r2")
    assert values["trace_id"] == "t"
    assert as_json(record(request_id="r2"))["request_id"] == "r2"


def test_an_inner_scope_adds_to_the_outer_and_ends_before_it() -> None:
    with log.bind(request_id="r1", worker_id=5):
        with log.bind(trace=TRACE, model="m"):
            assert [*log.current().fields()] == [
                "worker_id", "model", "trace_id", "span_id", "parent_id", "request_id",
            ]  # fmt: skip
        assert log.current().fields() == {"worker_id": 5, "request_id": "r1"}
    assert log.current().fields() == {}


def test_requests_in_tasks_of_their_own_do_not_mix() -> None:
    async def worker(name: str, gate: asyncio.Event) -> list[object]:
        log.set_request(name)
        await gate.wait()
        inner = await asyncio.create_task(look())
        return [inner, await asyncio.to_thread(lambda: log.current().request_id)]

    async def look() -> str | None:
        return log.current().request_id

    async def scenario() -> None:
        gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(f"r{n}", gate)) for n in range(3)]
            await asyncio.sleep(0)
            gate.set()
        assert [task.result() for task in tasks] == [[f"r{n}"] * 2 for n in range(3)]
        assert log.current().request_id is None

    run(scenario())


def test_a_request_that_was_set_can_be_undone() -> None:
    with log.bind(worker_id=5):
        token = log.set_request("r1", TRACE)
        assert log.current().fields()["request_id"] == "r1"
        log.reset(token)
        assert log.current().fields() == {"worker_id": 5}


def test_an_exception_has_its_traceback() -> None:
    made = record()
    try:
        raise ValueError("wrong")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert as_json(made)["exception"].endswith("ValueError: wrong")
    first, *rest = TextFormatter().format(made).splitlines()
    assert first.endswith("muster.x  said")
    assert rest[-1] == "ValueError: wrong"


@pytest.mark.parametrize(
    "value", [1 << 80, -(1 << 80), "\ud800", {1: "\udfff"}, {"a"}, float("nan"), b"\xff", object()]
)
def test_any_fact_can_be_written(value: object) -> None:
    assert "odd" in as_json(record(odd=value))
    assert " odd=" in TextFormatter().format(record(odd=value))


def test_a_name_from_elsewhere_cannot_forge_a_line() -> None:
    forged = "x\n2026-01-01T00:00:00.000000Z ERROR muster  stolen\x1b[31m"
    text = TextFormatter().format(record(forged, model=forged))
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "x\\n2026" in text
    assert as_json(record(forged))["message"] == forged


def test_facts_by_another_library_are_left_alone() -> None:
    made = record()
    made.__dict__["facts"] = "not ours"
    assert [*as_json(made)] == KEYS


def test_times_are_utc_or_local_with_an_offset() -> None:
    script = (
        "import logging; from muster.log import JsonFormatter, TextFormatter\n"
        "made = logging.LogRecord('t', 20, 'f', 1, 'm', (), None)\n"
        "made.created = 1700000000.25\n"
        "print(TextFormatter().format(made)); print(JsonFormatter(local_time=True).format(made))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TZ": "XST-5:30"},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    utc, local = done.stdout.decode().splitlines()
    assert utc.startswith("2023-11-14T22:13:20.250000Z ")
    assert json.loads(local)["time"] == "2023-11-15T03:43:20.250000+05:30"
