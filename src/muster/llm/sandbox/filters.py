"""Jinja's filters that may make more than they were given, measured first; and a plain ``tojson``."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Environment
from jinja2.filters import do_format, make_attrgetter

from muster.llm.sandbox.budget import check_nesting, check_size
from muster.llm.sandbox.sizes import measure_format, measure_join, measure_replace

__all__ = ["MeasuredFilters"]


class MeasuredFilters:
    """Filters of one environment that make nothing longer than a limit.

    All raise ``TemplateCutOff`` for what would be.

    Args:
        environment: Whose; it has Jinja's own filters still.
        characters: The limit.
    """

    def __init__(self, environment: Environment, characters: int) -> None:
        self._environment = environment
        self._characters = characters

    def by_name(self) -> dict[str, Callable[..., Any]]:
        """The filters in the place of Jinja's."""
        return {
            "tojson": self._to_json,
            **{name: self._padded(name) for name in ("center", "indent", "batch", "slice")},
            "replace": self._replace,
            "join": self._join,
            "format": self._format,
            "sum": self._sum,
        }

    def concatenated(self, parts: list[Any]) -> str:
        """The ``~`` operator."""
        texts = [self._text(part) for part in parts]
        self._check(sum(map(len, texts)))
        return "".join(texts)

    def _check(self, size: int) -> None:
        check_size(size, self._characters)

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        check_nesting(value, self._characters)
        return str(value)

    def _parts(self, value: Iterable[Any], attribute: str | int | None) -> list[Any]:
        if attribute is None:
            return list(value)
        return list(map(make_attrgetter(self._environment, attribute), value))

    def _padded(self, name: str) -> Callable[..., Any]:
        """A filter of Jinja's whose integer arguments are widths or counts."""
        original: Callable[..., Any] = self._environment.filters[name]
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

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = str(s), str(old), str(new)
        self._check(measure_replace(text, old, new))
        return text.replace(old, new, -1 if count is None else count)

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        texts = [self._text(part) for part in self._parts(value, attribute)]
        self._check(measure_join(str(d), texts))
        return str(d).join(texts)

    def _format(self, value: str, *args: Any, **kwargs: Any) -> str:
        self._check(measure_format(str(value), *args, **kwargs))
        return str(do_format(value, *args, **kwargs))

    def _sum(
        self, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0
    ) -> Any:
        parts = self._parts(iterable, attribute)
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
        check_nesting(x, self._characters)
        if isinstance(indent, int):
            self._check(indent * 1024)
        return json.dumps(
            x,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )
