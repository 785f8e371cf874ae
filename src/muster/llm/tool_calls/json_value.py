"""JSON read while it is being written: checked character by character, passed on at once.

Nothing is changed apart from control characters inside strings, which models write as they are and
JSON wants escaped.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from muster.llm.tool_calls.scanner import Malformed, Scanner, Sink, Steps

__all__ = ["call_array", "call_object", "collect_arguments", "json_value", "stream_arguments"]

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_WORD = re.compile(r"[-+.0-9A-Za-z]+")
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_UNICODE_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_ESCAPED = frozenset('"\\/bfnrt')
_CLOSER = {"{": "}", "[": "]"}
_LONGEST_SCALAR = 400
_EMPTY = "{}"


def json_value(scanner: Scanner, sink: Sink, *, opened: bool = False) -> Steps[None]:
    """Pass one JSON value on; nothing after it is taken.

    Args:
        scanner: The text.
        sink: Gets the value piece by piece.
        opened: Whether an object's brace has been taken, and passed on, before.

    Raises:
        Malformed: If it is none; what came before the fault has been passed on.
    """
    closers = ["}"] if opened else []
    state = "member" if opened else "value"
    while True:
        char = yield from scanner.space(sink)
        if state == "after":
            if char == "," and closers:
                state = "key" if closers[-1] == "}" else "value"
                sink(scanner.take(1))
                continue
            if not closers or char != closers.pop():
                raise Malformed
            sink(scanner.take(1))
        elif (state == "item" and char == "]") or (state == "member" and char == "}"):
            closers.pop()
            sink(scanner.take(1))
        elif state in ("key", "member"):
            yield from _key(scanner, sink)
            state = "value"
            continue
        elif char in _CLOSER:
            closers.append(_CLOSER[char])
            state = "member" if char == "{" else "item"
            sink(scanner.take(1))
            continue
        else:
            yield from (_string if char == '"' else _scalar)(scanner, sink)
        if not closers:
            return
        state = "after"


def _key(scanner: Scanner, sink: Sink) -> Steps[None]:
    yield from _string(scanner, sink)
    yield from scanner.space(sink)
    sink((yield from scanner.expect(":")))


def _string(scanner: Scanner, sink: Sink) -> Steps[None]:
    sink((yield from scanner.expect('"')))
    while True:
        plain = scanner.run(_PLAIN)
        if plain:
            sink(plain)
        char = yield from scanner.peek(1)
        if char == '"':
            sink(scanner.take(1))
            return
        if char == "\\":
            yield from _escape(scanner, sink)
        elif not char:
            raise Malformed
        elif char < " ":
            sink(msgspec.json.encode(scanner.take(1)).decode()[1:-1])


def _escape(scanner: Scanner, sink: Sink) -> Steps[None]:
    pair = yield from scanner.peek(2)
    if pair[1:] == "u":
        code = yield from scanner.peek(6)
        if _UNICODE_ESCAPE.fullmatch(code) is None:
            raise Malformed
        sink(scanner.take(6))
    elif pair[1:] in _ESCAPED:
        sink(scanner.take(2))
    else:
        raise Malformed


def _scalar(scanner: Scanner, sink: Sink) -> Steps[None]:
    word = ""
    while True:
        word += scanner.run(_WORD, _LONGEST_SCALAR + 1 - len(word))
        if len(word) > _LONGEST_SCALAR:
            raise Malformed
        after = yield from scanner.peek(1)
        if not after or _WORD.match(after) is None:
            break
    if _SCALAR.fullmatch(word) is None:
        raise Malformed
    sink(word)


def _string_value(scanner: Scanner) -> Steps[str]:
    """A string, decoded."""
    pieces: list[str] = []
    yield from _string(scanner, pieces.append)
    return str(_decode("".join(pieces)))


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed from error


def collect_arguments(scanner: Scanner) -> Steps[str]:
    """Arguments read to their end: an object, one inside a string, or null for none.

    Raises:
        Malformed: If they are none of these.
    """
    pieces: list[str] = []
    yield from json_value(scanner, pieces.append)
    text = "".join(pieces)
    if text.startswith("{"):
        return text
    value = _decode(text)
    if value is None or value == "":
        return _EMPTY
    if isinstance(value, str) and isinstance(_decode(value), dict):
        return value
    raise Malformed


def stream_arguments(
    scanner: Scanner, name: str, call_id: str | None = None, *, opened: bool = False
) -> Steps[None]:
    """Start a call and pass its arguments on as they come. The call is not ended.

    Args:
        scanner: The text, before the arguments.
        name: The function's.
        call_id: The call's; ``None`` for a new one.
        opened: Whether the arguments' brace has been taken.

    Raises:
        Malformed: If they are no arguments.
    """
    if opened:
        scanner.start_call(name, call_id)
        scanner.arguments("{")
        yield from json_value(scanner, scanner.arguments, opened=True)
    elif (yield from scanner.space()) == "{":
        scanner.start_call(name, call_id)
        yield from json_value(scanner, scanner.arguments)
    else:
        text = yield from collect_arguments(scanner)
        scanner.start_call(name, call_id)
        scanner.arguments(text)


class _CallObject:
    """What is known of a call that is being read."""

    __slots__ = ("arguments", "held", "name", "scanner", "started")

    def __init__(self, scanner: Scanner, arguments: tuple[str, ...]) -> None:
        self.scanner = scanner
        self.arguments = arguments
        self.name: str | None = None
        self.held: str | None = None
        self.started = False

    def member(self, key: str, char: str) -> Steps[None]:
        """The value of ``key``, which begins with ``char``."""
        scanner = self.scanner
        if key == "name" and char == '"':
            if self.name is not None:
                raise Malformed
            self.name = yield from _string_value(scanner)
        elif key in self.arguments:
            if self.started or self.held is not None:
                raise Malformed
            if self.name is None:
                self.held = yield from collect_arguments(scanner)
            else:
                self.started = True
                yield from stream_arguments(scanner, self.name)
        elif self.name is None and key not in ("type", "id"):
            raise Malformed
        else:
            yield from json_value(scanner, _drop)

    def end(self, *, bare: bool) -> None:
        """The object is complete."""
        if self.name is None or (bare and not self.started and self.held is None):
            raise Malformed
        if not self.started:
            self.scanner.start_call(self.name)
            self.scanner.arguments(self.held or _EMPTY)
        self.scanner.end_call()


def call_object(
    scanner: Scanner,
    *,
    bare: bool = False,
    arguments: tuple[str, ...] = ("arguments", "parameters"),
) -> Steps[None]:
    """A call written ``{"name": ..., "arguments": {...}}``; ``parameters`` will do as well.

    Args:
        scanner: The text, from the brace on.
        bare: Whether nothing but its form says that it is a call. Then it must have arguments.
        arguments: The names that arguments may have.

    Raises:
        Malformed: If it is something else.
    """
    call = _CallObject(scanner, arguments)
    yield from scanner.expect("{")
    while True:
        yield from scanner.space()
        key = yield from _string_value(scanner)
        yield from scanner.space()
        yield from scanner.expect(":")
        yield from call.member(key, (yield from scanner.space()))
        yield from scanner.space()
        if (yield from scanner.expect(",", "}")) == "}":
            break
    call.end(bare=bare)


def _drop(_: str) -> None:
    """Members that say nothing about a call."""


def call_array(scanner: Scanner, *, opened: bool = False) -> Steps[None]:
    """Calls written as an array of objects.

    Args:
        scanner: The text, from the bracket on.
        opened: Whether the bracket has been taken.

    Raises:
        Malformed: If it is something else, or empty. Calls before the fault stand.
    """
    if not opened:
        yield from scanner.expect("[")
    while True:
        yield from scanner.space()
        yield from call_object(scanner)
        yield from scanner.space()
        if (yield from scanner.expect(",", "]")) == "]":
            return
