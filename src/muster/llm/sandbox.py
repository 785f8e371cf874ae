"""The Jinja environment chat templates run in: what they can call, and when they are cut off.

Semantics are those of Hugging Face ``transformers``: ``trim_blocks``, ``lstrip_blocks``, loop controls,
``{% generation %}`` blocks, a plain ``tojson``, ``raise_exception`` and ``strftime_now``. A template comes
with a model, from anyone, so it runs in Jinja's immutable sandbox and on a budget.

What the budget bounds, by instrumenting the template's syntax tree before it is compiled:

* time: every pass of every loop and every call of a macro looks at the clock, so no nest of loops or
  recursion of macros goes on for longer than the limit (``range`` itself stops at 100,000);
* output: each ``{{ }}`` and each pass of a loop accounts for the characters it adds, inside macros and
  ``{% set %}`` blocks too, and the rendered text is counted as it is generated;
* growth of values: ``+``, ``*``, ``**``, ``~``, the filters and methods that repeat or pad, the widths in
  formats, and the printing of nested lists are measured before they are carried out.

What it does not bound: a single operation of Python on values within these limits (sorting, comparing
nested values that share parts, ``%`` and ``format`` with many long arguments). A template made to exhaust
memory that way needs a process of its own; one that merely loops or grows does not.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.visitor
import msgspec
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from muster.clock import Clock
from muster.llm.sandbox_sizes import (
    GROWING_METHODS,
    measure_format,
    measure_join,
    measure_replace,
)

__all__ = ["Budget", "RaisedByTemplate", "TemplateCutOff", "TemplateEnvironment", "TemplateLimits"]

_BUDGET = "muster_budget"
_TICK = "muster_tick"
_JOIN = "muster_join"
_MAX_BITS = 1 << 16
_MAX_PARTS = 1 << 19


class TemplateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a template may go.

    Attributes:
        time_s: Wall time of one rendering.
        characters: Length of the rendered text, and of any text or list made on the way.
    """

    time_s: float = 1.0
    characters: int = 1 << 24


class TemplateCutOff(jinja2.TemplateRuntimeError):
    """The template went beyond a limit."""


class RaisedByTemplate(jinja2.TemplateError):
    """The template itself refused, with ``raise_exception``."""


class Budget:
    """What one rendering may still spend.

    Args:
        limits: The limits.

    Attributes:
        characters: The longest text or list that may be made.
    """

    # Text may be produced more than once on its way (by a macro, then by its caller).
    _NESTING = 8

    def __init__(self, limits: TemplateLimits) -> None:
        self.characters = limits.characters
        self._time_s = limits.time_s
        self._deadline = time.monotonic() + limits.time_s
        self._left = limits.characters * self._NESTING

    def spend(self, characters: int) -> None:
        """Account for so many characters and for the time since the start.

        Raises:
            TemplateCutOff: If either is used up.
        """
        self._left -= characters
        if self._left < 0:
            raise TemplateCutOff("the chat template produces too much text")
        if time.monotonic() > self._deadline:
            raise TemplateCutOff(f"the chat template did not finish within {self._time_s:g} s")


class _GenerationBlock(Extension):
    """``{% generation %}`` marks what training counts as generated; for rendering it is a scope."""

    tags = {"generation"}  # noqa: RUF012 - the type Jinja declares

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Namespace(Namespace):
    """Jinja's namespace, without names that could reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        for name in dict(*args[1:], **kwargs):
            _refuse_private(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have the attribute {name!r}")


class _Dict:
    """The ``dict`` of templates: makes one, and gives no way to the type itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _raise_exception(message: object) -> NoReturn:
    raise RaisedByTemplate(str(message))


def _strftime_now(clock: Clock, format: str) -> str:  # noqa: A002 - transformers' name for it
    return datetime.fromtimestamp(clock.wall()).strftime(format)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates. One per model; renderings may run in several threads.

    Args:
        limits: What one rendering may spend.
        clock: What ``strftime_now`` reads.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, limits: TemplateLimits, clock: Clock) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, loopcontrols],
            finalize=_account,
            cache_size=0,
        )
        self._characters = limits.characters
        self.filters |= {
            _TICK: _tick,
            _JOIN: self._join,
            "tojson": self._to_json,
            **{name: self._padded(name) for name in ("center", "indent", "batch", "slice")},
            "replace": self._replace_filter,
            "join": self._join_filter,
            "format": self._format_filter,
            "sum": self._sum_filter,
        }
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": functools.partial(_strftime_now, clock),
            "dict": _Dict(),
            "namespace": _Namespace,
        }
        # It makes any amount of filler text, and no chat template has a use for it.
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            if isinstance(block, nodes.For | nodes.Macro | nodes.CallBlock):  # for the type checker
                block.body.insert(0, self._tick_node(block))
        _Rewriter().visit(tree)
        return tree

    def _tick_node(self, block: nodes.Node) -> nodes.Node:
        literal = sum(len(data.data) for data in block.find_all(nodes.TemplateData))
        call = nodes.Filter(nodes.Const(literal), _TICK, [], [], None, None)
        return nodes.ExprStmt(call, lineno=block.lineno).set_environment(self)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Carry out ``+``, ``*``, ``**`` or ``%`` if the result stays within the limits."""
        if operator == "%":
            if isinstance(left, str | bytes):
                values = right if isinstance(right, tuple) else (right,)
                self._check(measure_format(_readable(left), *values))
        elif operator == "+":
            if hasattr(left, "__len__") and hasattr(right, "__len__"):
                self._check(len(left) + len(right))
        elif isinstance(left, int) and isinstance(right, int):
            factor = right if operator == "**" else 1
            if left.bit_length() * factor + right.bit_length() > _MAX_BITS:
                raise TemplateCutOff("the chat template computes a number that is too large")
        elif operator == "*":
            for repeated, times in ((left, right), (right, left)):
                if isinstance(times, int) and hasattr(repeated, "__len__"):
                    self._check(len(repeated) * times)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``obj`` for the template, unless it is a string method that would grow too much."""
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            measure = GROWING_METHODS.get(obj.__name__)
            if measure is not None:
                if obj.__name__ == "join" and args:
                    args = (list(args[0]), *args[1:])
                # Jinja adds arguments of its own, all with a leading underscore
                named = {key: value for key, value in kwargs.items() if key[0] != "_"}
                self._check(measure(owner, *args, **named))
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own ``format`` and ``format_map``, measured."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        measure, text = GROWING_METHODS[value.__name__], value.__self__

        def measured(*args: Any, **kwargs: Any) -> str:
            self._check(measure(text, *args, **kwargs))
            return wrapped(*args, **kwargs)

        return measured

    def _check(self, size: int) -> None:
        if size > self._characters:
            raise TemplateCutOff("the chat template makes a value that is too large")

    def _join(self, parts: list[Any]) -> str:
        """The ``~`` operator."""
        texts = [self._text(part) for part in parts]
        self._check(sum(map(len, texts)))
        return "".join(texts)

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        _check_nesting(value, self._characters)
        return str(value)

    def _padded(self, name: str) -> Callable[..., Any]:
        """A filter of Jinja's whose integer arguments are widths or counts."""
        original: Callable[..., Any] = self.filters[name]
        passed = 1 if hasattr(original, "jinja_pass_arg") else 0

        @functools.wraps(original)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            value, *rest = args[passed:]
            lines = value.count("\n") + 1 if isinstance(value, str) and name == "indent" else 1
            for argument in (*rest, *kwargs.values()):
                if isinstance(argument, int):
                    self._check(argument * lines)
                elif isinstance(argument, str):
                    self._check(len(argument) * lines)
            return original(*args, **kwargs)

        return bounded

    def _replace_filter(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = str(s), str(old), str(new)
        self._check(measure_replace(text, old, new))
        return text.replace(old, new, -1 if count is None else count)

    def _join_filter(
        self, value: Iterable[Any], d: str = "", attribute: str | int | None = None
    ) -> str:
        parts = list(value if attribute is None else map(make_attrgetter(self, attribute), value))
        texts = [self._text(part) for part in parts]
        self._check(measure_join(str(d), texts))
        return str(d).join(texts)

    def _format_filter(self, value: str, *args: Any, **kwargs: Any) -> str:
        self._check(measure_format(str(value), *args, **kwargs))
        return str(do_format(value, *args, **kwargs))

    def _sum_filter(
        self, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0
    ) -> Any:
        parts = list(
            iterable if attribute is None else map(make_attrgetter(self, attribute), iterable)
        )
        self._check(sum(len(part) for part in parts if hasattr(part, "__len__")))
        return sum(parts, start)

    def _to_json(
        self,
        x: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """``transformers``' filter: Python's json as it is, without escaping for HTML."""
        _check_nesting(x, self._characters)
        if isinstance(indent, int):
            self._check(indent * 1024)
        return json.dumps(
            x,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )


class _Rewriter(jinja2.visitor.NodeTransformer):
    """Sends ``a ~ b`` through a filter, where its size can be looked at."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's spelling
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        call = nodes.Filter(parts, _JOIN, [], [], None, None, lineno=node.lineno)
        if node.environment is not None:  # the parser has set it
            call.set_environment(node.environment)
        return call


def _readable(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")


@pass_context
def _tick(context: Context, literal: int) -> None:
    context.parent[_BUDGET].spend(literal)


@pass_context
def _account(context: Context, value: Any) -> Any:
    """Called with everything ``{{ }}`` prints."""
    if isinstance(value, str):
        context.parent[_BUDGET].spend(len(value))
        return value
    _check_nesting(value, context.parent[_BUDGET].characters)
    text = str(value)
    context.parent[_BUDGET].spend(len(text))
    return text


def _check_nesting(value: Any, limit: int) -> None:
    """Refuse a value that reads much longer than it is, because its parts are used many times."""
    if not isinstance(value, list | tuple | dict):
        return
    left, parts = limit, 0
    todo: list[Any] = [value]
    while todo:
        part = todo.pop()
        parts += 1
        if isinstance(part, str):
            left -= len(part)
        if left < 0 or parts > _MAX_PARTS:
            raise TemplateCutOff("the chat template prints a value that is too large")
        if isinstance(part, dict):
            todo.extend(part)
            todo.extend(part.values())
        elif isinstance(part, list | tuple):
            todo.extend(part)
