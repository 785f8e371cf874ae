"""The rows that ``muster ls`` shows, and the JSON of ``muster ls --json``."""

from __future__ import annotations

import msgspec

from muster.frontend.report import RegistryReport

__all__ = [
    "UNREACHABLE",
    "ExclusionRow",
    "FrontendRow",
    "InstanceRow",
    "ModelRow",
    "ModelStanding",
    "Overview",
]

UNREACHABLE = "unreachable"
"""The status of a frontend that does not answer."""


class ModelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a model stands with the frontend: an entry of ``models`` in its ``/health``."""

    model: str = ""
    state: str = "unknown"
    reason: str = ""
    message: str = ""
    mdcsum: str = ""


class ExclusionRow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that gets no requests from the frontend though its model is served."""

    model: str
    endpoint: str
    instance: str
    transport: str = ""
    address: str = ""
    reason: str


class FrontendRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontend says of itself; ``status`` is ``unreachable`` if it says nothing.

    ``registry`` is there while it cannot read the registry. ``excluded`` is known of Muster's only.
    """

    url: str = ""
    status: str
    message: str = ""
    models: tuple[ModelStanding, ...] = ()
    registry: RegistryReport | None = None
    excluded: tuple[ExclusionRow, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether there is one."""
        return self.status != UNREACHABLE


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model record.

    ``files`` says where its files are: ``http``, ``path``, ``hf``, several with ``+``, or ``none``.
    ``identity`` names those files wherever they lie, ``terms`` all else that must be equal (see
    ``compute_terms``). ``transport`` and ``address`` are its instance's; empty if that is not there.
    ``differs``: other records of its name at its endpoint cannot serve with it. ``state``,
    ``reason`` and ``message`` are the frontend's; empty without one. A record that cannot be read
    has only its key and ``error``, and what else could be made out.
    """

    key: str
    model: str = ""
    endpoint: str = ""
    instance: str = ""
    transport: str = ""
    address: str = ""
    mdcsum: str = ""
    identity: str = ""
    terms: str = ""
    context_length: int | None = None
    types: str = ""
    files: str = ""
    aliases: tuple[str, ...] = ()
    lora: str | None = None
    differs: bool = False
    state: str = ""
    reason: str = ""
    message: str = ""
    error: str = ""


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance record; one that cannot be read has its key and ``error``."""

    key: str
    endpoint: str = ""
    instance: str = ""
    transport: str = ""
    address: str = ""
    has_model: bool = False
    error: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, each list in a stable order.

    ``registry_error`` says why the registry could not be read; the rest is the frontend's then.
    """

    models: tuple[ModelRow, ...]
    instances: tuple[InstanceRow, ...]
    frontend: FrontendRow
    registry_error: str = ""
