"""JSON5: what Dynamo reads a model's ``config.json`` as, because some contain ``NaN`` or comments."""

from __future__ import annotations

import re
import unicodedata

from muster.errors import CardError
from muster.model.strictjson.node import Node, Unreadable
from muster.model.strictjson.reader import mark_surrogates, parse, syntax_error

__all__ = ["read_json5"]

_SPACE = re.compile(
    r"(?:[ \t\n\r\v\f\xa0\ufeff\u2028\u2029]++|//[^\n\r\u2028\u2029]*+|/\*(?s:.*?)\*/)*+"
)
_STRINGS = {
    '"': re.compile(r'"(?:[^"\\\n\r]++|\\\r\n|\\(?s:.))*+"'),
    "'": re.compile(r"'(?:[^'\\\n\r]++|\\\r\n|\\(?s:.))*+'"),
}
_NUMBER = re.compile(
    r"([+-]?)(?:(0[xX][0-9a-fA-F]++)|(Infinity|NaN)"
    r"|((?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?+(?:[eE][+-]?[0-9]++)?+|\.[0-9]++(?:[eE][+-]?[0-9]++)?+))"
)
_INTEGER = re.compile(r"[0-9]+")
_NAME = re.compile(r"(?:[\w$\u200c\u200d]|\\u[0-9a-fA-F]{4})++")
_WORD = re.compile(r"true|false|null")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|(?s:.)))")
_NAMED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_LINE_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029")
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
        match = _NAME.match(text, position)
        if match is None or match.group()[0].isdigit():
            raise syntax_error(text, position, "expected a key")
        return _unescape(match.group(), text, position), match.end()

    def scalar(self, text: str, position: int) -> tuple[Node, int]:
        if text[position : position + 1] in _STRINGS:
            return self._string(text, position)
        word = _WORD.match(text, position)
        if word is not None:
            return _WORDS[word.group()], word.end()
        number = _NUMBER.match(text, position)
        if number is None:
            raise syntax_error(text, position, "expected value")
        return _number(number), number.end()

    def _string(self, text: str, position: int) -> tuple[str | Unreadable, int]:
        match = _STRINGS[text[position]].match(text, position)
        if match is None:
            raise syntax_error(text, position, "not a valid string")
        return _unescape(match.group()[1:-1], text, position), match.end()


def _unescape(body: str, text: str, position: int) -> str | Unreadable:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1) or match.group(2)
        if code is not None:
            return chr(int(code, 16))
        char = match.group(3)
        if char in _LINE_ENDS:
            return ""
        if char in "ux" or char in "123456789":
            raise syntax_error(text, position, f"invalid escape \\{char}")
        return _NAMED.get(char, char)

    if "\\" not in body:
        return body
    units = _ESCAPE.sub(replace, body)
    joined = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return mark_surrogates(joined)


def _number(match: re.Match[str]) -> int | float | Unreadable:
    sign, hexadecimal, word, decimal = match.groups()
    if word is not None:
        magnitude = float("inf" if word == "Infinity" else "nan")
        return -magnitude if sign == "-" else magnitude
    if hexadecimal is None and not _INTEGER.fullmatch(decimal):
        return -float(decimal) if sign == "-" else float(decimal)
    if hexadecimal is None and len(decimal) > 20:
        return Unreadable("number out of range")
    value = int(hexadecimal, 16) if hexadecimal is not None else int(decimal)
    value = -value if sign == "-" else value
    return value if _I64_MIN <= value <= _U64_MAX else Unreadable("number out of range")


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
