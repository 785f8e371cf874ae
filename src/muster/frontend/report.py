"""What a frontend says of every model and replica: the JSON of ``GET /v1/muster/models``.

The command line reads the same shapes. Fields are added, never renamed; readers ignore unknown ones.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "ExclusionReport",
    "FileReport",
    "FleetReport",
    "ModelReport",
    "ProcessReport",
    "RegistryReport",
    "ReplicaReport",
]


class FileReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a card.

    Attributes:
        name: Its real name.
        role: Its slot (``tokenizer``, ...) or ``extra``.
        digest: ``blake3:<hex>``.
        size_bytes: As the card says; ``None`` if it does not.
        state: ``waiting``, ``cached``, ``fetching``, ``verified``, ``failed`` or ``left_out``.
        done_bytes: How much of it is here.
        seconds: How long it has taken.
        source: Where it comes or came from, without secrets.
        code: Reason code, if it failed or is left out.
        message: The same for people.
    """

    name: str
    role: str
    digest: str
    size_bytes: int | None = None
    state: str = "waiting"
    done_bytes: int = 0
    seconds: float = 0.0
    source: str = ""
    code: str = ""
    message: str = ""


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of a model in the registry.

    Attributes:
        key: The record's key.
        instance: Instance id in hexadecimal; empty if the record cannot be read.
        address: Where its instance is, if that is known.
        transport: How it is reached: ``tcp``, ``nats_tcp``...
        mdcsum: Digest of its card; empty if it cannot be read.
        identity: Identity of its files, if its card says it.
        state: A word of ``ModelState``: what has become of this replica.
        code: Reason code, if it is not served.
        message: The same for people.
    """

    key: str
    instance: str = ""
    address: str = ""
    transport: str = ""
    mdcsum: str = ""
    identity: str = ""
    state: str
    code: str = ""
    message: str = ""


class ExclusionReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An instance at a served model's endpoint that gets none of its requests at present.

    Attributes:
        instance: Instance id in hexadecimal.
        transport: How it would be reached.
        address: Where it is, if that is known.
        reason: Why it gets none, for people.
    """

    instance: str
    transport: str = ""
    address: str = ""
    reason: str


class ModelReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model at one endpoint: a group, or a record that could not be read.

    Attributes:
        model: Its name; empty if nobody knows it.
        state: A word of ``ModelState``.
        code: Reason code for why it is not served, or not yet.
        message: The same for people.
        endpoint: ``namespace.component.endpoint``; empty for a record that could not be read.
        worker_set: Dynamo's name of the group.
        mdcsum: Digest of the card that serves or is to serve.
        identity: Identity of its files, if it has one.
        attempt: Failures in a row.
        retry_in_s: Seconds to the next attempt, if one is waited for.
        since: When this state began, in seconds since the epoch.
        files: The files of that card, typed slots first.
        replicas: All records of the group.
        excluded: Instances that get no requests though the model is served, and why.
        aliases: Further names.
        lora: The LoRA adapter's name, if it is one.
        notes: What it is served without, a sentence each; see ``card_notes``.
    """

    model: str
    state: str
    code: str = ""
    message: str = ""
    endpoint: str = ""
    worker_set: str = ""
    mdcsum: str = ""
    identity: str = ""
    attempt: int = 0
    retry_in_s: float | None = None
    since: float = 0.0
    files: tuple[FileReport, ...] = ()
    replicas: tuple[ReplicaReport, ...] = ()
    excluded: tuple[ExclusionReport, ...] = ()
    aliases: tuple[str, ...] = ()
    lora: str = ""
    notes: tuple[str, ...] = ()


class RegistryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The registry is out of reach, and the fleet as it was seen last.

    Attributes:
        stale_since: RFC 3339 in UTC.
        reason: What goes wrong.
    """

    stale_since: str
    reason: str


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several processes that are one frontend.

    Attributes:
        process: Its number, from 0.
        pid: Its process id.
        status: What it alone would say at ``/health``.
        message: Why it is not ``healthy``.
        restarts: How often it was started again.
        active: Requests it answers now.
    """

    process: int
    pid: int
    status: str
    message: str = ""
    restarts: int = 0
    active: int = 0


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a frontend knows.

    Attributes:
        status: The word of ``/health``.
        message: Why it is not ``healthy``; empty if it is.
        policy: How the card that serves is chosen among several.
        stale_since: When the registry was last read, in seconds since the epoch, if it cannot be
            read at present.
        registry: The same for people, and why; absent while it can be read.
        models: All of them, by name, then endpoint.
        processes: Where the frontend is several: all of them; ``status`` is the worst of theirs, and
            everything else is as the process that answers sees it.
    """

    status: str
    message: str = ""
    policy: str = "first"
    stale_since: float | None = None
    models: tuple[ModelReport, ...] = ()
    registry: RegistryReport | msgspec.UnsetType = msgspec.UNSET
    processes: tuple[ProcessReport, ...] | msgspec.UnsetType = msgspec.UNSET
