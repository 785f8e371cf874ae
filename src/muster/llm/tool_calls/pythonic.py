"""Pythonic (Llama 3.2 and 4, ToolACE): ``[f(city="Paris", days=2), g()]``."""

from __future__ import annotations

import ast
import re
import warnings

import msgspec

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import MAX_NAME, Malformed, Scanner, Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["PythonicParser"]

_FIRST = re.compile(r"[A-Za-z_]")
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_PLAIN = re.compile(r"[^\"'\[\](){},\\]+")
_IN_QUOTES = {'"': re.compile(r'[^"\\\n]+'), "'": re.compile(r"[^'\\\n]+")}
_WORDS = {"true": "true", "false": "false", "null": "null"}
_DEEPEST = 64
_CLOSER = {"[": "]", "(": ")", "{": "}"}


class PythonicParser(MarkedParser):
    """A list of calls with keyword arguments, at the beginning or after ``<|python_start|>``.

    Arguments come one value at a time, since only a whole literal can become JSON.
    """

    opening = Markers("<|python_start|>")

    def steps(self) -> Steps[None]:
        """Without a marker, calls are looked for at the beginning only."""
        self.scanner.begin()
        first = yield from self.scanner.space()
        self.scanner.abort()
        if first == "[":
            yield from self.attempt("")
        yield from super().steps()

    def calls(self, marker: str) -> Steps[None]:
        """The list."""
        scanner = self.scanner
        yield from scanner.space()
        yield from scanner.expect("[")
        while True:
            yield from scanner.space()
            yield from self._call()
            yield from scanner.space()
            if (yield from scanner.expect(",", "]")) == "]":
                break
        if marker:
            yield from scanner.space()
            yield from scanner.accept("<|python_end|>")

    def _call(self) -> Steps[None]:
        scanner = self.scanner
        name = yield from _name(scanner)
        yield from scanner.expect("(")
        scanner.start_call(name)
        scanner.arguments("{")
        keys: set[str] = set()
        while (yield from scanner.space()) != ")":
            key = yield from _name(scanner)
            yield from scanner.space()
            yield from scanner.expect("=")
            if key in keys:
                raise Malformed
            value = yield from _literal(scanner)
            scanner.arguments(f'{", " if keys else ""}"{key}": {value}')
            keys.add(key)
            if (yield from scanner.peek(1)) == ",":
                scanner.take(1)
        scanner.take(1)
        scanner.arguments("}")
        scanner.end_call()


def _name(scanner: Scanner) -> Steps[str]:
    if _FIRST.match((yield from scanner.peek(1))) is None:
        raise Malformed
    name = ""
    while True:
        name += scanner.run(_NAME, MAX_NAME + 1 - len(name))
        if len(name) > MAX_NAME:
            raise Malformed
        if _NAME.match((yield from scanner.peek(1))) is None:
            return name


def _literal(scanner: Scanner) -> Steps[str]:
    """A Python literal up to the comma or bracket after it, as JSON."""
    pieces: list[str] = []
    closers: list[str] = []
    while True:
        pieces.append(scanner.run(_PLAIN))
        char = yield from scanner.peek(1)
        if not char or char == "\\":
            raise Malformed
        if not closers and char in ",)":
            return _as_json("".join(pieces))
        if char in _IN_QUOTES:
            yield from _quoted(scanner, char, pieces)
            continue
        if char in _CLOSER:
            closers.append(_CLOSER[char])
            if len(closers) > _DEEPEST:
                raise Malformed
        elif char in "])}" and (not closers or closers.pop() != char):
            raise Malformed
        elif _PLAIN.match(char) is not None:
            continue  # it came while waiting
        pieces.append(scanner.take(1))


def _quoted(scanner: Scanner, quote: str, pieces: list[str]) -> Steps[None]:
    pieces.append(scanner.take(1))
    while True:
        pieces.append(scanner.run(_IN_QUOTES[quote]))
        char = yield from scanner.peek(1)
        if not char:
            raise Malformed
        if char == "\\":
            pair = yield from scanner.peek(2)
            pieces.append(scanner.take(len(pair)))
        elif char == quote:
            pieces.append(scanner.take(1))
            return
        elif char == "\n":
            # Models write line breaks into strings, which Python does not have.
            scanner.take(1)
            pieces.append("\\n")


def _as_json(literal: str) -> str:
    literal = literal.strip()
    if literal in _WORDS:
        return _WORDS[literal]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = ast.literal_eval(literal)
        return msgspec.json.encode(value).decode()
    except (
        ValueError,
        TypeError,
        SyntaxError,
        MemoryError,
        RecursionError,
        OverflowError,
    ) as error:
        raise Malformed from error
