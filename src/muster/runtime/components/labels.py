"""Labels of a level of the component model, and who has which already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from muster.errors import InvalidArgument
from muster.runtime.metrics.labels import check_labels

__all__ = ["Labels", "joined_labels"]


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
        check_labels([(name, value)], where=where)
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
