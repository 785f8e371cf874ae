"""Names: how a model's or component's name becomes a slug, a key or a path, and back.

All functions here are pure and total; what a name may not be is said where it is created.
"""

from __future__ import annotations

import functools
import re

import msgspec

from muster.errors import InvalidArgument

__all__ = ["EndpointId", "check_name", "decode_file_name", "encode_file_name", "slugify"]

_NAME = re.compile(r"[a-z0-9_-]+")
_NOT_SLUG = re.compile(r"[^a-z0-9_-]")


def slugify(text: str) -> str:
    """The slug Dynamo 1.6.1 makes of ``text``.

    Lower case (Unicode rules), every other character than ``a-z 0-9 - _`` becomes ``_``, leading
    ``_`` are dropped. Different texts may share a slug, and the slug may be empty.
    """
    return _NOT_SLUG.sub("_", text.lower()).lstrip("_")


def check_name(name: str, *, what: str) -> str:
    """Return ``name`` if we may create a ``what`` of that name.

    Raises:
        InvalidArgument: If it is empty or has a character outside ``a-z 0-9 - _``; the message says
            which, and where.
    """
    if _NAME.fullmatch(name):
        return name
    if not name:
        raise InvalidArgument(f"a {what} name must not be empty")
    position = next(i for i, character in enumerate(name) if not _NAME.fullmatch(character))
    nested = what == "namespace" and name[position] == "."
    raise InvalidArgument(
        f"{what} name {name!r} has {name[position]!r} at position {position}",
        hint="nest one namespace in another: namespace('a').namespace('b')"
        if nested
        else "use a-z, 0-9, '-' and '_' only",
    )


@functools.lru_cache(maxsize=65536)
def encode_file_name(key: str) -> str:
    """Percent-encode every byte of ``key`` but ASCII letters and digits, as Dynamo's file store does.

    Unlike URL quoting this also encodes ``- _ . ~``. Hexadecimal digits are upper case.
    """
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}"
        for byte in key.encode("utf-8", "surrogateescape")
    )


def decode_file_name(name: str) -> str | None:
    """The key that ``encode_file_name`` made ``name`` from, or ``None`` if it made none.

    Only the canonical spelling is accepted, so that two file names never mean one key.
    """
    out = bytearray()
    raw = name.encode("utf-8", "surrogateescape")
    position = 0
    while position < len(raw):
        byte = raw[position]
        if byte == 0x25:
            try:
                out.append(int(raw[position + 1 : position + 3], 16))
            except ValueError:
                return None
            position += 3
        else:
            out.append(byte)
            position += 1
    try:
        key = out.decode("utf-8", "surrogateescape")
    except UnicodeDecodeError:
        return None
    return key if encode_file_name(key) == name else None


_SEPARATORS = re.compile(r"[./]")
_DEFAULT_PARTS = ("NS", "C", "E")


class EndpointId(msgspec.Struct, frozen=True, order=True):
    """Names an endpoint: namespace, component, endpoint name. Text form ``ns/component/name``.

    There are two readers: ``parse`` for paths people write in programs, and ``lenient`` for ids in
    configuration, as Dynamo's Rust side reads them.
    """

    namespace: str
    component: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.component}/{self.name}"

    @property
    def url(self) -> str:
        """The form ``dyn://namespace.component.name``."""
        return f"dyn://{self.namespace}.{self.component}.{self.name}"

    @classmethod
    def parse(cls, path: str) -> EndpointId:
        """Read ``namespace.component.endpoint``, with or without ``dyn://`` before it.

        Raises:
            InvalidArgument: If there are not exactly three parts, or one is empty.
        """
        parts = path.removeprefix("dyn://").split(".")
        if len(parts) != 3 or not all(parts) or "/" in path.removeprefix("dyn://"):
            raise InvalidArgument(
                f"Invalid endpoint path '{path}'. Expected format: 'namespace.component.endpoint' "
                "or 'dyn://namespace.component.endpoint'"
            )
        return cls(*parts)

    @classmethod
    def lenient(cls, text: str) -> EndpointId:
        """Read an id in any spelling; every text is one.

        A ``dyn://`` before it is dropped, then spaces, ``/`` and ``.`` at both ends, and empty parts
        between the separators ``.`` and ``/``. One part is a component, two are namespace and
        component; of more than three the rest is joined with ``_`` to the name. What is missing is
        ``NS``, ``C`` or ``E``. The rules are those of Dynamo's Rust ``EndpointId``.
        """
        trimmed = text.removeprefix("dyn://").strip(" /.")
        parts = [part for part in _SEPARATORS.split(trimmed) if part]
        namespace, component, name = _DEFAULT_PARTS
        if len(parts) == 1:
            (component,) = parts
        elif parts:
            namespace, component = parts[:2]
            name = "_".join(parts[2:]) or name
        return cls(namespace, component, name)
