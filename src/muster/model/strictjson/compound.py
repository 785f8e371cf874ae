"""Shapes made of shapes: what may be absent, lists, maps, records and tagged values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from muster.errors import CardError
from muster.model.strictjson.node import Json, Members, Node, Unreadable, mismatch, where
from muster.model.strictjson.shape import Shape

__all__ = [
    "REQUIRED",
    "Distinct",
    "Field",
    "ListOf",
    "MapOf",
    "Maybe",
    "Record",
    "Tagged",
    "always",
    "if_empty",
    "if_none",
]

T = TypeVar("T")


class _Required:
    pass


REQUIRED: Final = _Required()
"""The default of a field that must be there."""


class Maybe(Generic[T]):
    """A ``T`` or null."""

    def __init__(self, inner: Shape[T]) -> None:
        self._inner = inner

    def read(self, node: Node, at: str) -> T | None:
        """Read null as ``None``."""
        return None if node is None else self._inner.read(node, at)

    def write(self, value: T | None) -> Json:
        """Write ``None`` as null."""
        return None if value is None else self._inner.write(value)


class ListOf(Generic[T]):
    """An array of ``T``, as a tuple."""

    def __init__(self, inner: Shape[T]) -> None:
        self._inner = inner

    def read(self, node: Node, at: str) -> tuple[T, ...]:
        """Read every item."""
        if not isinstance(node, list):
            raise mismatch(node, "a sequence", at)
        return tuple(self._inner.read(item, where(at, i)) for i, item in enumerate(node))

    def write(self, value: tuple[T, ...]) -> Json:
        """Write every item."""
        return [self._inner.write(item) for item in value]


class Distinct(ListOf[T]):
    """An array that is a set. Repeated items count once; the order is that of first appearance.

    Dynamo writes such a field in random order, so its order means nothing.
    """

    def read(self, node: Node, at: str) -> tuple[T, ...]:
        """Read every item, and drop those seen before."""
        return tuple(dict.fromkeys(super().read(node, at)))


class MapOf(Generic[T]):
    """An object with any keys.

    Args:
        inner: The shape of every value.
        repeated: Whether a key may be repeated; its last value counts.
    """

    def __init__(self, inner: Shape[T], *, repeated: bool = True) -> None:
        self._inner = inner
        self._repeated = repeated

    def read(self, node: Node, at: str) -> dict[str, T]:
        """Read every value."""
        if not isinstance(node, Members):
            raise mismatch(node, "a map", at)
        out: dict[str, T] = {}
        for key, value in node.pairs:
            if isinstance(key, Unreadable):
                raise mismatch(key, "a string", at)
            if key in out and not self._repeated:
                raise CardError(f"{at}: duplicate key `{key}`")
            out[key] = self._inner.read(value, where(at, key))
        return out

    def write(self, value: Mapping[str, T]) -> Json:
        """Write every value."""
        return {key: self._inner.write(item) for key, item in value.items()}


def if_none(value: object) -> bool:
    """Leave a field out when there is no value."""
    return value is None


def if_empty(value: object) -> bool:
    """Leave a field out when it holds nothing."""
    return not value


def always(value: object) -> bool:
    """Never write a field: it is only understood."""
    _ = value
    return True


def never(value: object) -> bool:
    """Always write a field."""
    _ = value
    return False


class Field:
    """One member of a record.

    Args:
        name: Its key, and the attribute it is written from.
        shape: What its value looks like.
        default: The value when the key is missing; ``REQUIRED`` if it must not be.
        omit: Given the value, whether to leave the key out when writing.
        in_array: Whether the default also serves where the record is written as an array that
            ends before this field. serde requires there even what may be null.
        attribute: The attribute's name where it differs from the key.
    """

    def __init__(
        self,
        name: str,
        shape: Shape[Any],  # a record mixes fields of different types
        default: object = REQUIRED,
        *,
        omit: Callable[[Any], bool] = never,  # as above
        in_array: bool = True,
        attribute: str = "",
    ) -> None:
        self.name = name
        self.shape = shape
        self.default = default
        self.omit = omit
        self.in_array = in_array
        self.attribute = attribute or name


class Record(Generic[T]):
    """An object with known keys. An array with the values in the fields' order is read too.

    Args:
        name: What to call it in messages.
        make: Makes the value from the fields as keyword arguments; may raise CardError.
        fields: In the order they are written.
        closed: Whether an unknown key is an error; otherwise it is passed over, whatever it holds.
        exact: Whether an array with more items than fields is an error, as it is in JSON but not
            in JSON5.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., T],
        *fields: Field,
        closed: bool = False,
        exact: bool = True,
    ) -> None:
        self._name = name
        self._make = make
        self._fields = fields
        self._by_name = {field.name: field for field in fields}
        self._closed = closed
        self._exact = exact

    def read(self, node: Node, at: str) -> T:
        """Read every field, in whichever form."""
        if isinstance(node, Members):
            values = self._read_members(node, at)
        elif isinstance(node, list):
            values = self._read_items(node, at)
        else:
            raise mismatch(node, self._name, at)
        try:
            return self._make(**values)
        except CardError as error:
            raise CardError(f"{at or 'card'}: {error.message}", hint=error.hint) from error

    def write(self, value: T) -> Json:
        """Write every field that is not to be left out."""
        out: dict[str, Json] = {}
        for field in self._fields:
            if field.omit is always:
                continue
            content = getattr(value, field.attribute)
            if not field.omit(content):
                out[field.name] = field.shape.write(content)
        return out

    def _read_members(self, node: Members, at: str) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, content in node.pairs:
            if isinstance(key, Unreadable):
                raise mismatch(key, "a field name", at)
            field = self._by_name.get(key)
            if field is None:
                self._check_unknown(key, at)
                continue
            if field.attribute in values:
                raise CardError(f"{at or 'card'}: duplicate field `{key}`")
            values[field.attribute] = field.shape.read(content, where(at, key))
        for field in self._fields:
            if field.attribute not in values:
                values[field.attribute] = self._default(field, at)
        return values

    def _read_items(self, node: list[Node], at: str) -> dict[str, object]:
        if self._exact and len(node) > len(self._fields):
            raise CardError(
                f"{at or 'card'}: {len(node)} items, expected {self._name} "
                f"with {len(self._fields)} elements"
            )
        values: dict[str, object] = {}
        for index, field in enumerate(self._fields):
            if index < len(node):
                values[field.attribute] = field.shape.read(node[index], where(at, field.name))
            elif not field.in_array:
                raise CardError(f"{at or 'card'}: invalid length {index}: no `{field.name}`")
            else:
                values[field.attribute] = self._default(field, at)
        return values

    def _check_unknown(self, key: str, at: str) -> None:
        if self._closed:
            known = ", ".join(f"`{name}`" for name in self._by_name)
            raise CardError(f"{at}: unknown field `{key[:80]}`, expected one of {known}")

    def _default(self, field: Field, at: str) -> object:
        if field.default is REQUIRED:
            raise CardError(f"{at or 'card'}: missing field `{field.name}`")
        return field.default


class Tagged(Generic[T]):
    """An object with one member, whose key says what the value is.

    Args:
        shapes: The shape of the value for each key.
        tag: Says under which key a value is written.
    """

    def __init__(self, shapes: Mapping[str, Shape[Any]], tag: Callable[[T], str]) -> None:
        self._shapes = dict(shapes)
        self._tag = tag

    def read(self, node: Node, at: str) -> T:
        """Read the one member."""
        known = ", ".join(f"`{name}`" for name in self._shapes)
        if not isinstance(node, Members):
            raise mismatch(node, f"an object with one of {known}", at)
        if len(node.pairs) != 1:
            raise CardError(f"{at}: {len(node.pairs)} members, expected one of {known}")
        key, content = node.pairs[0]
        shape = self._shapes.get(key) if isinstance(key, str) else None
        if shape is None:
            shown = key[:80] if isinstance(key, str) else key.reason
            raise CardError(f"{at}: unknown variant `{shown}`, expected one of {known}")
        value: T = shape.read(content, where(at, str(key)))
        return value

    def write(self, value: T) -> Json:
        """Write the one member."""
        tag = self._tag(value)
        return {tag: self._shapes[tag].write(value)}
