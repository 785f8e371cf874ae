"""Labels of a level of the component model: what may be one, and who has it already."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from muster.errors import InvalidArgument

__all__ = ["RESERVED_LABELS", "Labels", "joined_labels"]

RESERVED_LABELS = frozenset(
    {"dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id", "le", "quantile"}
)
"""Labels that every metric gets by itself, and Prometheus's own."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Labels:
    """One level's own labels, in the order they were added."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own: dict[str, str] = {}

    def add(self, name: str, value: str, *, taken: Mapping[str, str], where: str) -> None:
        """Add a label.

        Args:
            name: Letters, digits and ``_``, not beginning with a digit or ``__``.
            value: Any text.
            taken: The labels of this level and those further out.
            where: The level, for the message.

        Raises:
            InvalidArgument: The name is no label's, is reserved, or is taken.
        """
        _check(name, value, where)
        if name in taken:
            raise InvalidArgument(
                f"{where} has a label {name!r} already, with the value {taken[name]!r}",
                hint="labels are inherited: use another name",
            )
        self.own[name] = value


def joined_labels(
    inherited: Mapping[str, str], added: Iterable[tuple[str, str]], *, where: str
) -> list[tuple[str, str]]:
    """``inherited`` and then ``added``, checked as ``Labels.add`` does.

    Raises:
        InvalidArgument: A name in ``added`` is no label's, is reserved, or is taken.
    """
    labels = Labels()
    for name, value in added:
        labels.add(name, value, taken={**inherited, **labels.own}, where=where)
    return [*inherited.items(), *labels.own.items()]


def _check(name: Any, value: Any, where: str) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidArgument(f"{where}: a label is two texts, not {name!r} and {value!r}")
    if name in RESERVED_LABELS:
        raise InvalidArgument(
            f"{where}: the label {name!r} is reserved", hint="every metric gets it by itself"
        )
    if not _NAME.fullmatch(name) or name.startswith("__"):
        raise InvalidArgument(
            f"{where}: {name!r} is no label's name",
            hint="use letters, digits and '_', beginning with a letter",
        )
