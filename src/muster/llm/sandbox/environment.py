"""The Jinja environment chat templates are compiled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from muster.clock import Clock
from muster.llm.sandbox.budget import TemplateCutOff, TemplateLimits, check_size
from muster.llm.sandbox.filters import MeasuredFilters
from muster.llm.sandbox.instrument import JOIN, TICK, account, instrument, tick
from muster.llm.sandbox.offers import GenerationBlock, offers
from muster.llm.sandbox.sizes import GROWING_METHODS, measure_format

__all__ = ["TemplateEnvironment"]

_MAX_BITS = 1 << 16


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
            extensions=[GenerationBlock, loopcontrols],
            finalize=account,
            cache_size=0,
        )
        self._characters = limits.characters
        filters = MeasuredFilters(self, limits.characters)
        self.filters |= {TICK: tick, JOIN: filters.concatenated, **filters.by_name()}
        self.globals |= offers(clock)
        # It makes any amount of filler text, and no chat template has a use for it.
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        instrument(tree, self)
        return tree

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
        check_size(size, self._characters)


def _readable(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")
