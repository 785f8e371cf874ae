"""DeepSeek V3.2, V4 and V4.1: ``invoke`` and ``parameter`` tags with a marker of their own, "DSML".

Each parameter says whether it is a string, so no schema is needed. V4.1 puts a space after the
marker and may write all arguments as one object. Sources: DeepSeek's ``encoding_dsv32.py`` and
``encoding_dsv4.py``, published with the models, and what Dynamo 1.6.1 reads.
"""

from __future__ import annotations

from muster.llm.tool_calls.json_value import json_value
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, Steps
from muster.llm.tool_calls.tagged import TaggedParser

__all__ = ["DeepSeekV4Parser", "DeepSeekV32Parser", "DeepSeekV41Parser"]

_DSML = "\N{FULLWIDTH VERTICAL LINE}DSML\N{FULLWIDTH VERTICAL LINE}"
_NAME_END = Markers('"')


class _DsmlParser(TaggedParser):
    """The common form.

    Attributes:
        block: The name of the tag around all calls.
        space: What stands between the marker and a tag's name.
    """

    block: str
    space = ""

    def __init_subclass__(cls) -> None:
        cls.opening = Markers(cls.tag(cls.block))

    @classmethod
    def tag(cls, name: str, *, end: bool = False) -> str:
        """A tag without attributes."""
        return f"<{'/' if end else ''}{_DSML}{cls.space}{name}>"

    def calls(self, marker: str) -> Steps[None]:
        """The calls of a block."""
        scanner = self.scanner
        invoke = f'<{_DSML}{self.space}invoke name="'
        yield from scanner.space()
        yield from scanner.expect(invoke)
        while True:
            name, _ = yield from scanner.short_until(_NAME_END)
            yield from scanner.space()
            yield from scanner.expect(">")
            yield from self._call(name)
            yield from scanner.space()
            if (yield from scanner.accept(invoke, self.tag(self.block, end=True))) != invoke:
                return

    def _call(self, name: str) -> Steps[None]:
        scanner = self.scanner
        done = self.tag("invoke", end=True)
        if (yield from scanner.space()) == "{":
            scanner.start_call(name)
            yield from json_value(scanner, scanner.arguments)
            yield from scanner.space()
            yield from scanner.expect(done)
            scanner.end_call()
            return
        self.start(name)
        parameter = f'<{_DSML}{self.space}parameter name="'
        value_end = Markers(self.tag("parameter", end=True))
        while True:
            yield from scanner.space()
            if (yield from scanner.expect(parameter, done)) == done:
                break
            key, _ = yield from scanner.short_until(_NAME_END)
            yield from scanner.space()
            kind = yield from scanner.accept('string="true"', 'string="false"')
            yield from scanner.space()
            yield from scanner.expect(">")
            if kind is None:
                raise Malformed
            yield from self.argument(key, value_end, padded=False, text=kind == 'string="true"')
        self.end()


class DeepSeekV32Parser(_DsmlParser):
    """V3.2: the block is named ``function_calls``."""

    block = "function_calls"


class DeepSeekV4Parser(_DsmlParser):
    """V4: the block is named ``tool_calls``."""

    block = "tool_calls"


class DeepSeekV41Parser(_DsmlParser):
    """V4.1: the block is named ``calls``, with a space before every name."""

    block = "calls"
    space = " "
