"""JSON5: what Dynamo reads a model's ``config.json`` as, because some contain ``NaN`` or comments."""

from __future__ import annotations

import re
import unicodedata

from muster.errors import CardError
from muster.model.strictjson.node import Node, Unreadable
from muster.model.strictjson.reader import mark_surrogates, parse, syntax_error

__all__ = ["read_json5"]

_SPACE = re.compile(
    r"(?:[ \t\n\r\v\f\x85\xa0\ufeff\u2028\u2029]++|//[^\n\r\u2028\u2029]*+|/\*(?s:.*?)\*/)*+"
)
_STRINGS = {
    '"': re.compile(r'"(?:[^"\\\n\r\u2028\u2029]++|\\\r\n|\\(?s:.))*+"'),
    "'": re.compile(r"'(?:[^'\\\n\r\u2028\u2029]++|\\\r\n|\\(?s:.))*+'"),
}
_NUMBER = re.compile(
    r"(0[xX][0-9a-fA-F]++)|(Infinity|NaN)"
    r"|((?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?+(?:[eE][+-]?[0-9]++)?+"
    r"|\.[0-9]++(?:[eE][+-]?[0-9]++)?+|\.[eE][+-]?[0-9]++)"
)
_INTEGER = re.compile(r"[0-9]+")
_NAME_CHAR = re.compile(r"\\u([0-9a-fA-F]{4})|(?s:.)")
_NAME_BEGINS = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nl"})
_NAME_CONTINUES = _NAME_BEGINS | {"Mn", "Mc", "Nd", "No", "Pc"}
_NO_NAMES = ("null", "true", "false", "NaN", "Infinity")
_WORD = re.compile(r"true|false|null")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|(?s:.)))")
_NAMED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_LINE_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029")
_WRONG_ESCAPES = "ux123456789"
_U64_MAX = 2**64 - 1
_I64_MIN = -(2**63)


class _Json5Grammar:
    trailing_comma = True

    def skip(self, text: str, position: int) -> int:
        while True:
            match = _SPACE.match(text, position)
            end = match.end() if match else position
            if end < len(text) and unicodedata.category(text[end]) == "Zs":
                position = end + 1
                continue
            return end

    def key(self, text: str, position: int) -> tuple[str | Unreadable, int]:
        if text[position : position + 1] in _STRINGS:
            return self._string(text, position)
        end = _name_end(text, position)
        name = text[position:end]
        if not name or name in _NO_NAMES:
            raise syntax_error(text, position, "expected a key")
        return _unescape(name), end

    def scalar(self, text: str, position: int) -> tuple[Node, int]:
        if text[position : position + 1] in _STRINGS:
            return self._string(text, position)
        word = _WORD.match(text, position)
        if word is not None:
            return _WORDS[word.group()], word.end()
        sign = text[position : position + 1] in ("+", "-")
        number = _NUMBER.match(text, self.skip(text, position + 1) if sign else position)
        if number is None:
            raise syntax_error(text, position, "expected value")
        return _number(number, negative=text[position] == "-"), number.end()

    def _string(self, text: str, position: int) -> tuple[str | Unreadable, int]:
        match = _STRINGS[text[position]].match(text, position)
        if match is None:
            raise syntax_error(text, position, "not a valid string")
        return _unescape(match.group()[1:-1]), match.end()


def _name_end(text: str, start: int) -> int:
    """Where the name that begins at ``start`` ends; ``start`` if none does."""
    end = start
    while match := _NAME_CHAR.match(text, end):
        escaped = match.group(1)
        if escaped is None or end == start:  # later escapes may stand for anything
            char = match.group() if escaped is None else chr(int(escaped, 16))
            if not _is_name_char(char, first=end == start):
                break
        end = match.end()
    return end


def _is_name_char(char: str, *, first: bool) -> bool:
    if char in "$_":
        return True
    if first:
        return unicodedata.category(char) in _NAME_BEGINS
    return char in "\u200c\u200d" or unicodedata.category(char) in _NAME_CONTINUES


def _unescape(body: str) -> str | Unreadable:
    """What a string or name says. Pairs of surrogates are not joined: each is wrong by itself."""
    wrong = ""

    def replace(match: re.Match[str]) -> str:
        nonlocal wrong
        code = match.group(1) or match.group(2)
        if code is not None:
            return chr(int(code, 16))
        char = match.group(3)
        if char in _WRONG_ESCAPES:
            wrong = char
        return "" if char in _LINE_ENDS else _NAMED.get(char, char)

    units = _ESCAPE.sub(replace, body)
    return Unreadable(f"invalid escape \\{wrong}") if wrong else mark_surrogates(units)


def _number(match: re.Match[str], *, negative: bool) -> int | float | Unreadable:
    hexadecimal, word, decimal = match.groups()
    value: int | float
    if word is not None:
        value = float("inf" if word == "Infinity" else "nan")
    elif hexadecimal is not None:
        return _in_range(int(hexadecimal, 16))  # Dynamo's parser forgets the sign of these
    elif not _INTEGER.fullmatch(decimal):
        # without any digit before the exponent it is as good as 0
        value = float(decimal.replace(".", "0.", 1) if decimal.startswith(".") else decimal)
    elif len(decimal) > len(str(_U64_MAX)):
        return Unreadable("number out of range")
    else:
        value = int(decimal)
    return _in_range(-value if negative else value)


def _in_range(value: int | float) -> int | float | Unreadable:
    if isinstance(value, int) and not _I64_MIN <= value <= _U64_MAX:
        return Unreadable("number out of range")
    return value


_JSON5 = _Json5Grammar()


def read_json5(data: bytes) -> Node:
    """Parse JSON5.

    Raises:
        CardError: If ``data`` is not UTF-8, or not one JSON5 value; says where.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CardError(f"not JSON: not UTF-8 at byte {error.start}") from error
    return parse(text, _JSON5)
