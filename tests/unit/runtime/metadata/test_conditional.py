from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.runtime.metadata.conditional import (
    ByteRange,
    Unsatisfiable,
    entity_tag,
    is_unchanged,
    range_asked,
)

TAG = entity_tag(Digest.of(b""))


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-", ByteRange(0, 10)),
        ("bytes=3-5", ByteRange(3, 6)),
        ("bytes=3-500", ByteRange(3, 10)),
        ("bytes=-4", ByteRange(6, 10)),
        ("bytes=-400", ByteRange(0, 10)),
        ("Bytes= 9-9 ", ByteRange(9, 10)),
        ("bytes=10-", Unsatisfiable()),
        ("bytes=10-12", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        (None, None),
        ("bytes=-", None),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("items=0-1", None),
        ("bytes", None),
        ("", None),
        ("bytes=1e3-", None),
        ("bytes=\u0661-", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_what_a_range_header_asks_of_ten_bytes(
    header: str | None, wanted: ByteRange | Unsatisfiable | None
) -> None:
    assert range_asked(header, None, tag=TAG, size_bytes=10) == wanted


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_an_empty_file_has_no_satisfiable_range(header: str) -> None:
    assert range_asked(header, None, tag=TAG, size_bytes=0) == Unsatisfiable()


@pytest.mark.parametrize("if_range", ['"other"', "W/" + TAG, "Sat, 01 Jan 2022 00:00:00 GMT", ""])
def test_a_range_of_another_version_is_the_whole_file(if_range: str) -> None:
    assert range_asked("bytes=1-2", if_range, tag=TAG, size_bytes=10) is None
    assert range_asked("bytes=1-2", TAG, tag=TAG, size_bytes=10) == ByteRange(1, 3)


@pytest.mark.parametrize(
    ("header", "unchanged"),
    [
        (None, False),
        ("*", True),
        (TAG, True),
        ("W/" + TAG, True),
        ('"a", ' + TAG, True),
        ('"a", "b"', False),
        (TAG.strip('"'), False),
        ("", False),
    ],
)
def test_whether_a_client_has_it_already(header: str | None, unchanged: bool) -> None:
    assert is_unchanged(header, TAG) is unchanged


@given(st.text(max_size=40), st.integers(0, 1 << 40))
def test_any_header_gives_a_part_within_the_file_or_none(header: str, size_bytes: int) -> None:
    for text in (header, "bytes=" + header):
        asked = range_asked(text, None, tag=TAG, size_bytes=size_bytes)
        if isinstance(asked, ByteRange):
            assert 0 <= asked.start < asked.stop <= size_bytes


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 100))
def test_parts_are_what_slicing_gives(first: int, last: int, size_bytes: int) -> None:
    data = bytes(range(size_bytes))
    asked = range_asked(f"bytes={first}-{last}", None, tag=TAG, size_bytes=size_bytes)
    if first > last:
        assert asked is None
    elif first >= size_bytes:
        assert asked == Unsatisfiable()
    else:
        assert isinstance(asked, ByteRange)
        assert data[asked.start : asked.stop] == data[first : last + 1]
        assert asked.content_range(size_bytes).endswith(f"/{size_bytes}")
