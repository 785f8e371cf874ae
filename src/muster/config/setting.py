"""What one setting is, and how its text becomes a value.

A setting is a field of a frozen dataclass made with ``setting()``; the field's annotation says how
text is read. This module does not read the environment: ``load`` is given it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from muster.errors import ConfigError

__all__ = ["Origin", "SettingInfo", "boolean", "group", "iter_settings", "load_group", "setting"]

T = TypeVar("T")

Origin = str
"""Where a value came from: ``flag``, ``env NAME``, ``file`` or ``default``."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettingInfo:
    """What is known about one setting besides its type and default."""

    env: str
    help: str
    unit: str = ""
    parse: Callable[[str], Any] | None = None
    check: Callable[[Any], str | None] | None = None


def setting(
    default: Any,
    *,
    env: str,
    help: str,  # noqa: A002 - the usual word for it
    unit: str = "",
    parse: Callable[[str], Any] | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: Its value when nobody says otherwise.
        env: Name of its environment variable.
        help: One sentence for the reference page.
        unit: Unit of a number, e.g. ``s`` or ``bytes``.
        parse: Reads its text; by default the field's annotation decides.
        check: Says what is wrong with a value, or ``None``.
    """
    info = SettingInfo(env=env, help=help, unit=unit, parse=parse, check=check)
    return dataclasses.field(default=default, metadata={"setting": info})


def group(factory: Callable[[], T]) -> T:
    """Declare a field that is itself a dataclass of settings."""
    return dataclasses.field(default_factory=factory)


def boolean(text: str) -> bool:
    """Read ``1 true yes on`` and ``0 false no off``, in any case and with spaces around.

    Raises:
        ValueError: For anything else.
    """
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected one of {', '.join(sorted(_TRUE | _FALSE))}, got {text!r}")


def iter_settings(cls: type[Any]) -> list[tuple[str, SettingInfo, Any]]:
    """All settings of a dataclass: field name, what is known of it, default."""
    return [
        (field.name, field.metadata["setting"], field.default)
        for field in dataclasses.fields(cls)
        if "setting" in field.metadata
    ]


def _reader(annotation: Any) -> Callable[[str], Any]:
    """How text becomes a value of ``annotation``."""
    options = [annotation]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        options = [arg for arg in typing.get_args(annotation) if arg is not types.NoneType]
    kind = options[0]
    if kind is bool:
        return boolean
    if kind is Path:
        return Path
    if kind in (int, float, str):
        return typing.cast("Callable[[str], Any]", kind)
    raise TypeError(f"a setting of type {annotation!r} needs its own parse function")


def load_group(
    cls: type[T],
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Mapping[str, Any],
) -> tuple[T, dict[str, Origin]]:
    """Read one dataclass of settings: flag, then environment, then file, then default.

    A flag counts when present and not ``None``. An environment variable that is set but empty
    counts as unset, unless the setting has its own ``parse``.

    Returns:
        The settings, and for each field where its value came from.

    Raises:
        ConfigError: If a name is unknown, or a value cannot be read or is out of its range; the
            message names the flag or variable and the text.
    """
    known = {name for name, _, _ in iter_settings(cls)}
    unknown = sorted({*flags, *file} - known)
    if unknown:
        raise ConfigError(f"unknown setting: {', '.join(unknown)}", hint=_known_names(known))
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for name, info, default in iter_settings(cls):
        read = info.parse or _reader(hints[name])
        raw = environ.get(info.env)
        if flags.get(name) is not None:
            value, origin = flags[name], "flag"
        elif raw is not None and (raw or info.parse):
            value, origin = _parse(read, raw, f"environment variable {info.env}"), f"env {info.env}"
        elif name in file:
            value, origin = _parse(read, str(file[name]), f"setting {name} in the file"), "file"
        else:
            value, origin = default, "default"
        complaint = info.check(value) if info.check else None
        if complaint:
            raise ConfigError(f"{name} ({origin}) is {value!r}: {complaint}", hint=info.help)
        values[name], origins[name] = value, origin
    return cls(**values), origins


def _parse(read: Callable[[str], Any], text: str, where: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ConfigError(f"{where} is {text!r}: {error}") from error


def _known_names(names: set[str]) -> str:
    return f"known here are {', '.join(sorted(names))}"
