"""W3C Trace Context: what is read, what is refused, what is sent on."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.trace import TraceContext, parse_tracestate

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def ids(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length).filter(
        lambda text: bool(text.strip("0"))
    )


contexts = st.builds(
    TraceContext,
    trace_id=ids(32),
    span_id=ids(16),
    parent_id=st.none(),
    flags=st.integers(0, 1),
    tracestate=st.sampled_from(["", "a=1", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"]),
)


def test_the_standards_own_example_is_read() -> None:
    trace = TraceContext.parse(PARENT, "congo=t61rcWkgMzE")
    assert trace == TraceContext(TRACE, SPAN, None, 1, "congo=t61rcWkgMzE")
    assert trace.sampled
    assert trace.headers() == {"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE"}


@given(contexts)
def test_what_is_written_is_read_back(trace: TraceContext) -> None:
    assert TraceContext.from_headers(trace.headers()) == trace


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        PARENT[:-1],
        PARENT + "0",
        PARENT + "-more",  # version 00 has exactly four parts
        PARENT + "\n",
        PARENT.upper(),
        PARENT.replace("00-", "ff-", 1),
        PARENT.replace("00-", "0g-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",  # a digit, but not one of ASCII
        f"cc-{TRACE}-{SPAN}-01.more",  # more of a later version follows a dash
    ],
)
def test_a_malformed_parent_is_no_trace(text: str) -> None:
    assert TraceContext.parse(text, "a=1") is None


@given(st.text() | st.text("0123456789abcdef-", max_size=60))
def test_any_text_is_read_or_refused_without_an_error(text: str) -> None:
    trace = TraceContext.parse(text, text)
    assert trace is None or TraceContext.parse(trace.traceparent) is not None


@pytest.mark.parametrize("text", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-follows"])
def test_a_later_version_is_read_as_far_as_we_know_it_and_sent_as_ours(text: str) -> None:
    trace = TraceContext.parse(text)
    assert trace is not None
    assert trace.traceparent == PARENT


def test_blanks_around_a_header_do_not_count() -> None:
    assert TraceContext.parse(f" {PARENT}\t") == TraceContext(TRACE, SPAN)


def test_flags_nobody_has_defined_are_not_sent_on() -> None:
    trace = TraceContext.parse(PARENT[:-2] + "fe")
    assert trace is not None
    assert (trace.flags, trace.sampled) == (0, False)


@pytest.mark.parametrize("sampled", [True, False])
def test_no_flag_is_sent_that_the_peer_takes_for_a_mistake(sampled: bool) -> None:
    random = TraceContext.parse(PARENT[:-2] + ("03" if sampled else "02"))
    for trace in (random, TraceContext.start(sampled=sampled)):
        assert trace is not None
        assert trace.traceparent.endswith("-01" if sampled else "-00")


@given(contexts)
def test_a_child_is_a_new_span_of_the_same_trace(trace: TraceContext) -> None:
    child = trace.child()
    assert (child.trace_id, child.parent_id) == (trace.trace_id, trace.span_id)
    assert (child.flags, child.tracestate) == (trace.flags, trace.tracestate)
    assert re.fullmatch("[0-9a-f]{16}", child.span_id)
    assert child.span_id not in (trace.span_id, trace.child().span_id)


def test_a_new_trace_has_ids_of_its_own_and_can_be_read() -> None:
    one, other = TraceContext.start(), TraceContext.start(sampled=False)
    assert one.trace_id != other.trace_id
    assert (one.sampled, other.sampled, one.unsampled().sampled) == (True, False, False)
    assert TraceContext.parse(one.traceparent) == one


def test_ids_differ_in_processes_that_seed_random_alike() -> None:
    random.seed(7)
    first = TraceContext.start()
    random.seed(7)
    assert TraceContext.start().trace_id != first.trace_id


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a=1", "a=1"),
        (" a=1 ,\tb=2", "a=1,b=2"),
        ("a=1,,b=2,", "a=1,b=2"),
        ("0tenant@system=x y", "0tenant@system=x y"),
        ("a*/_-=!~", "a*/_-=!~"),
        ("A=1", ""),
        ("0a=1", ""),
        ("a", ""),
        ("a=", ""),
        ("a=1=2", ""),
        ("a=1,a=2", ""),
        ("a=\n", ""),
        ("a=é", ""),
        ("a=1\r\nx-forged: 1", ""),
        ("k" * 257 + "=1", ""),
        ("a=" + "v" * 257, ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""),
    ],
)
def test_a_state_is_kept_whole_or_not_at_all(text: str, kept: str) -> None:
    assert parse_tracestate(text) == kept
    trace = TraceContext.parse(PARENT, text)
    assert trace is not None
    assert trace.tracestate == kept


@given(st.text())
def test_a_state_that_was_kept_is_kept_again(text: str) -> None:
    kept = parse_tracestate(text)
    assert parse_tracestate(kept) == kept
    assert kept.isascii()


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": None}, {"traceparent": 7}, {"tracestate": "a=1"}, {"Traceparent": PARENT}],
)
def test_headers_without_a_parent_are_no_trace(headers: dict[str, str]) -> None:
    assert TraceContext.from_headers(headers) is None


def test_a_state_that_is_no_text_is_dropped() -> None:
    headers: dict[str, object] = {"traceparent": PARENT, "tracestate": ["a=1"]}
    assert TraceContext.from_headers(headers) == TraceContext(TRACE, SPAN)  # type: ignore[arg-type] # as garbage is
