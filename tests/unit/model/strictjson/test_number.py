import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.model.strictjson.node import Unreadable
from muster.model.strictjson.number import Single, float_text, parse_number, to_single


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("7", 7),
        ("-7", -7),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.0", 1.0),
        ("1e3", 1000.0),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775809", -9.223372036854775809e18),
        ("1e-00000000000000000001", 0.1),
        ("1e-99999999999", 0.0),
        ("0e99999999999", 0.0),
        ("1e-400", 0.0),
    ],
)
def test_numbers_mean_what_they_say(text: str, value: float) -> None:
    parsed = parse_number(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["-0", "-0.0", "-0e5", "-1e-400", "-0e99999999999"])
def test_minus_nothing_is_the_float_minus_zero(text: str) -> None:
    parsed = parse_number(text)
    assert isinstance(parsed, float)
    assert math.copysign(1.0, parsed) == -1.0


@pytest.mark.parametrize("text", ["1e309", "-1e309", "1e99999999999", "1" + "0" * 400])
def test_numbers_beyond_the_largest_float_are_unreadable(text: str) -> None:
    assert parse_number(text) == Unreadable("number out of range")


def test_a_number_that_is_none_is_unreadable() -> None:
    assert isinstance(parse_number("1x"), Unreadable)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        # not the nearest double, but the one serde_json makes
        ("123456789012345680000", "1.2345678901234567e+20"),
        ("0.1234567890123456789", "0.12345678901234568"),
        ("100000000000000000000.5", "1e+20"),
        ("3.14159265358979323846", "3.141592653589793"),
        ("1e15", "1000000000000000.0"),
        ("1e16", "1e+16"),
        ("0.00001", "0.00001"),
        ("0.000001", "1e-6"),
        ("1e-7", "1e-7"),
        ("5e-324", "5e-324"),
        ("123456.789e3", "123456789.0"),
        ("-0.0", "-0.0"),
        ("-2.5", "-2.5"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ],
)
def test_floats_are_spelled_as_serde_spells_them(text: str, written: str) -> None:
    value = parse_number(text)
    assert isinstance(value, float)
    assert float_text(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.1, "0.1"),
        (0.30000001, "0.3"),
        (16777217.0, "16777216.0"),
        (4294967296.0, "4294967300.0"),
        (1e12, "1000000000000.0"),
        (1e13, "1e+13"),
        (7.1581e-06, "0.0000071581"),
        (1e-7, "1e-7"),
        (1e-45, "1e-45"),
        (3.4028235e38, "3.4028235e+38"),
        (3.5e38, "null"),
        (-1e39, "null"),
        (1e-46, "0.0"),
    ],
)
def test_floats_of_32_bits_are_spelled_as_serde_spells_them(value: float, written: str) -> None:
    assert float_text(to_single(value)) == written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_float_reads_back_as_itself(value: float) -> None:
    assert float(float_text(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_written_float_of_32_bits_reads_back_as_itself(value: float) -> None:
    written = float_text(Single(value))
    assert to_single(float(written)) == value
    assert len(written.partition("e")[0].replace(".", "").strip("-0")) <= 9


@given(st.integers(-(2**63), 2**64 - 1))
def test_every_integer_of_64_bits_is_exact(value: int) -> None:
    assert parse_number(str(value)) == value
