"""Numbers: from JSON text to int or float, and from float to text, bit for bit as ``serde_json``.

Its float parser is fast, not exact (it multiplies a 64-bit significand by a power of ten), so the
nearest double that ``float()`` gives would be another value, print as another text and change a
card's digest. The steps below follow that algorithm; formatting is the shortest text that reads
back as the same float, laid out as the ``zmij`` library does.
"""

from __future__ import annotations

import math
import re
import struct

from muster.model.strictjson.node import Unreadable

__all__ = ["Single", "float_text", "parse_number", "to_single"]

_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_U64_MAX = 2**64 - 1
_I64_MIN = -(2**63)
_I32_MAX = 2**31 - 1
_LAST_POWER = 308
_PLAIN_DOUBLE = range(-5, 16)
_PLAIN_SINGLE = range(-6, 13)
_OUT_OF_RANGE = Unreadable("number out of range")


class Single(float):
    """A float that came from, and is written as, 32 bits."""


def parse_number(text: str) -> int | float | Unreadable:
    """The value of a JSON number.

    An int if written without fraction and exponent and it fits i64 or u64 (``-0`` is the float
    ``-0.0``); a float otherwise; ``Unreadable`` beyond the largest float.
    """
    match = _PARTS.fullmatch(text)
    if match is None:  # the reader only passes texts of the JSON grammar
        return Unreadable("invalid number")
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    if fraction is None and exponent is None:
        value = int(whole) if len(whole) <= 20 else _U64_MAX + 1
        if value <= _U64_MAX and not sign:
            return value
        if value and sign and -value >= _I64_MIN:
            return -value
    significand, shift = _significand(whole, fraction or "")
    if exponent is not None:
        exponent = exponent.lstrip("0") or "0"
        if len(exponent) > 10 or int(exponent) > _I32_MAX:
            if significand and exponent_sign != "-":
                return _OUT_OF_RANGE
            return -0.0 if sign else 0.0
        shift += -int(exponent) if exponent_sign == "-" else int(exponent)
    magnitude = _scale(significand, shift)
    if isinstance(magnitude, Unreadable):
        return magnitude
    return -magnitude if sign else magnitude


def _significand(whole: str, fraction: str) -> tuple[int, int]:
    """The digits that fit 64 bits, and the power of ten they are to be scaled by."""
    value = 0
    for position, digit in enumerate(whole):
        longer = value * 10 + int(digit)
        if longer > _U64_MAX:
            return _with_fraction(value, fraction, len(whole) - position)
        value = longer
    return _with_fraction(value, fraction, 0)


def _with_fraction(value: int, fraction: str, dropped: int) -> tuple[int, int]:
    for position, digit in enumerate(fraction):
        longer = value * 10 + int(digit)
        if longer > _U64_MAX:
            return value, dropped - position
        value = longer
    return value, dropped - len(fraction)


def _scale(significand: int, power: int) -> float | Unreadable:
    """``significand * 10**power`` by table steps of at most 10**308."""
    value = float(significand)
    while abs(power) > _LAST_POWER:
        if value == 0.0:
            return value
        if power > 0:
            return _OUT_OF_RANGE
        value /= 1e308
        power += _LAST_POWER
    if power < 0:
        return value / float(f"1e{-power}")
    value *= float(f"1e{power}")
    return _OUT_OF_RANGE if math.isinf(value) else value


def to_single(value: float) -> Single:
    """``value`` rounded to 32 bits; infinite when it is too large for them."""
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        single = math.copysign(math.inf, value)
    return Single(single)


def float_text(value: float) -> str:
    """The JSON text of a float; ``null`` when it is not finite, as JSON has no other word for it."""
    if not math.isfinite(value):
        return "null"
    if value == 0.0:
        return "-0.0" if math.copysign(1.0, value) < 0 else "0.0"
    sign = "-" if value < 0 else ""
    if isinstance(value, Single):
        return sign + _layout(*_shortest_single(value), plain=_PLAIN_SINGLE)
    return sign + _layout(*_shortest(value), plain=_PLAIN_DOUBLE)


def _shortest(value: float) -> tuple[str, int]:
    mantissa, _, exponent = f"{float.__repr__(abs(value))}e0".partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent.partition("e")[0]) + len(whole) - 1
    digits = whole + fraction
    stripped = digits.lstrip("0")
    power -= len(digits) - len(stripped)
    return stripped.rstrip("0"), power


def _shortest_single(value: float) -> tuple[str, int]:
    """As ``_shortest``, for a value of 32 bits: nine digits always suffice."""
    for precision in range(8):
        text = f"{abs(value):.{precision}e}"
        if to_single(float(text)) == abs(value):
            break
    else:
        text = f"{abs(value):.8e}"
    mantissa, _, exponent = text.partition("e")
    return mantissa.replace(".", "").rstrip("0"), int(exponent)


def _layout(digits: str, power: int, *, plain: range) -> str:
    """Write ``d.ddd * 10**power``: without an exponent for the powers in ``plain``."""
    if power in plain:
        if power < 0:
            return "0." + "0" * (-power - 1) + digits
        whole = digits[: power + 1].ljust(power + 1, "0")
        return f"{whole}.{digits[power + 1 :] or '0'}"
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"
