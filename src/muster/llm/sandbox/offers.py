"""What templates find besides Jinja's own: a tag, and functions and types in the place of Python's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from muster.clock import Clock

__all__ = ["GenerationBlock", "RaisedByTemplate", "offers"]


class RaisedByTemplate(jinja2.TemplateError):
    """The template itself refused, with ``raise_exception``."""


def offers(clock: Clock) -> dict[str, Any]:
    """The global names of templates that Jinja does not have, or not in a safe form.

    Args:
        clock: What ``strftime_now`` reads.
    """

    def strftime_now(format: str) -> str:  # noqa: A002 - transformers' name for it
        return datetime.fromtimestamp(clock.wall()).strftime(format)

    return {
        "raise_exception": _raise_exception,
        "strftime_now": strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }


class GenerationBlock(Extension):
    """``{% generation %}`` marks what training counts as generated; for rendering it is a scope."""

    tags = {"generation"}  # noqa: RUF012 - the type Jinja declares

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body, as a scope."""
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
