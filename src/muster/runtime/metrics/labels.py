"""Labels of metrics: the automatic ones, how their values are cleaned, and what others may be called.

Names and cleaning are those of Dynamo 1.6.1, found by serving endpoints of odd names with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from muster.errors import InvalidArgument

__all__ = [
    "AUTOMATIC_LABELS",
    "COMPONENT",
    "ENDPOINT",
    "NAMESPACE",
    "WORKER_ID",
    "Labels",
    "check_label_names",
    "check_labels",
    "parse_constant_labels",
    "sanitize_label_value",
]

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order given."""

NAMESPACE = "dynamo_namespace"
COMPONENT = "dynamo_component"
ENDPOINT = "dynamo_endpoint"
WORKER_ID = "worker_id"
AUTOMATIC_LABELS = frozenset({NAMESPACE, COMPONENT, ENDPOINT, WORKER_ID})

_RESERVED = frozenset({"le", "quantile"})
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_WORD = re.compile(r"[^a-zA-Z0-9_]")


def sanitize_label_value(name: str) -> str:
    """The value of an automatic label for a namespace, component or endpoint of this name.

    Every character but ASCII letters, digits and ``_`` becomes ``_``. One ``__`` at the start is
    dropped; what then does not start with a letter, and whatever starts with a digit, gets a ``_``
    before it. Different names may have one value: ``exp-ns`` and ``exp_ns`` do. Where Dynamo
    refuses a name because nothing is left of it, the value is ``_``.
    """
    text = _NOT_WORD.sub("_", name)
    if text.startswith("__"):
        text = text[2:]
        return text if text[:1].isalpha() else f"_{text}"
    return f"_{text}" if not text or text[0].isdigit() else text


def check_label_names(names: Iterable[str], *, where: str) -> None:
    """Check names of labels somebody wants on a metric.

    Args:
        names: The names.
        where: What they are for, for the message.

    Raises:
        InvalidArgument: One is no label name, is set automatically, belongs to the text format
            (``le``, ``quantile``), or is there twice; the message names it.
    """
    seen = set()
    for name in names:
        if not _LABEL.fullmatch(name):
            raise InvalidArgument(
                f"{name!r} is no label name, for {where}",
                hint="use a-z, A-Z, 0-9 and _, with no digit first",
            )
        if name.startswith("__") or name in _RESERVED:
            raise InvalidArgument(f"the label {name!r} is reserved, for {where}")
        if name in AUTOMATIC_LABELS:
            raise InvalidArgument(
                f"the label {name!r} is set automatically and cannot be set by hand, for {where}",
                hint="leave it out",
            )
        if name in seen:
            raise InvalidArgument(f"the label {name!r} is there twice, for {where}")
        seen.add(name)


def check_labels(labels: Iterable[Sequence[str]], *, where: str) -> Labels:
    """``labels`` as a tuple of pairs.

    Raises:
        InvalidArgument: As ``check_label_names``, or one is no pair of texts.
    """
    pairs: list[tuple[str, str]] = []
    for label in labels:
        if isinstance(label, str) or [type(part) for part in label] != [str, str]:
            raise InvalidArgument(f"{label!r} is no pair of a label's name and value, for {where}")
        pairs.append((label[0], label[1]))
    check_label_names((name for name, _ in pairs), where=where)
    return tuple(pairs)


def parse_constant_labels(text: str) -> Labels:
    """Labels from ``name=value,name=value``; blanks around names and values are dropped.

    Raises:
        InvalidArgument: A part has no ``=`` or no value, or as ``check_labels``.
    """
    pairs = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not value:
            raise InvalidArgument(f"{part!r} has no value, in the constant labels {text!r}")
        pairs.append((name, value))
    return check_labels(pairs, where=f"the constant labels {text!r}")
