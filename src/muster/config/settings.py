"""All settings of Muster, grouped by the part that reads them.

Variables that Dynamo has keep its names and meaning; what it has no name for is ``MUSTER_*``. A
part is given its own group and nothing else; only ``Settings.load`` touches the environment.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muster.config.setting import Origin, group, load_group, setting
from muster.errors import ConfigError

__all__ = [
    "CacheSettings",
    "DiscoverySettings",
    "FetchSettings",
    "HttpSettings",
    "LogSettings",
    "MetadataSettings",
    "RequestPlaneSettings",
    "Settings",
    "SystemSettings",
    "self_host_switch",
]

_MIB = 1 << 20


def _at_least(low: float) -> Any:
    def check(value: Any) -> str | None:
        return None if value is None or value >= low else f"must be at least {low:g}"

    return check


def _one_of(*words: str) -> Any:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def _words(text: str) -> tuple[str, ...]:
    """Read a list separated by commas; spaces around its items do not count."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _paths(text: str) -> tuple[Path, ...]:
    """Read a list of directories, separated as in PATH."""
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def _port(value: Any) -> str | None:
    return None if value is None or -1 <= value <= 65535 else "must be between -1 and 65535"


def self_host_switch(text: str) -> bool:
    """Read ``DYN_SELF_HOST_METADATA`` as Dynamo 1.6.1 does: anything but a clear no is a yes.

    ``0 false no off`` in any case and with spaces around mean no; everything else, also an empty
    text or a word nobody knows, means yes.
    """
    return text.strip().lower() not in {"0", "false", "no", "off"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """Where records of who exists are kept."""

    backend: str = setting(
        "file",
        env="DYN_DISCOVERY_BACKEND",
        help="Registry to use: file (one machine), memory (one process; also spelled mem).",
        parse=lambda text: {"mem": "memory"}.get(text.strip() or "file", text.strip() or "file"),
        check=_one_of("file", "memory"),
    )
    file_root: Path | None = setting(
        None,
        env="DYN_FILE_KV",
        help="Directory of the file registry; by default dynamo_store_kv in the temporary directory.",
    )
    temporary_directory: Path = setting(
        Path("/tmp"),  # noqa: S108 - where Dynamo's processes look, too
        env="TMPDIR",
        help="The temporary directory. As for Dynamo, TEMP and TMP do not count.",
    )
    file_ttl_s: float = setting(
        10.0,
        env="MUSTER_FILE_TTL_SECS",
        help="Age at which a record nobody refreshes is dropped; Dynamo's is 10 and not settable.",
        unit="s",
        check=_at_least(0.5),
    )
    poll_interval_s: float = setting(
        5.0,
        env="MUSTER_DISCOVERY_POLL_SECS",
        help="Interval of the full listing that backs up the operating system's notifications.",
        unit="s",
        check=_at_least(0.1),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlaneSettings:
    """Addresses, deadlines and limits of the request plane."""

    plane: str = setting(
        "tcp", env="DYN_REQUEST_PLANE", help="Transport of requests.", check=_one_of("tcp")
    )
    host: str | None = setting(
        None,
        env="DYN_TCP_RPC_HOST",
        help="Address or interface a worker listens on and advertises; by default a routable one.",
    )
    port: int | None = setting(
        None,
        env="DYN_TCP_RPC_PORT",
        help="Port a worker listens on; by default one the system picks.",
        unit="port",
        check=_port,
    )
    response_host: str | None = setting(
        None,
        env="DYN_TCP_RESPONSE_STREAM_HOST",
        help="Address a caller listens on for response streams; by default a routable one.",
    )
    response_port: int | None = setting(
        None,
        env="DYN_TCP_RESPONSE_STREAM_PORT",
        help="Port a caller listens on for response streams; by default one the system picks.",
        unit="port",
        check=_port,
    )
    connect_timeout_s: float = setting(
        5.0,
        env="DYN_TCP_CONNECT_TIMEOUT",
        help="Limit on opening a connection.",
        unit="s",
        check=_at_least(0.01),
    )
    ack_timeout_s: float = setting(
        5.0,
        env="DYN_TCP_REQUEST_TIMEOUT",
        help="Limit on the worker's acknowledgement of a request.",
        unit="s",
        check=_at_least(0.01),
    )
    call_home_timeout_s: float = setting(
        10.0,
        env="MUSTER_CALL_HOME_TIMEOUT_SECS",
        help="Limit on the worker's connection back, counted from its acknowledgement.",
        unit="s",
        check=_at_least(0.01),
    )
    prologue_timeout_s: float = setting(
        60.0,
        env="MUSTER_PROLOGUE_TIMEOUT_SECS",
        help="Limit on the prologue, counted from the worker's connection back.",
        unit="s",
        check=_at_least(0.01),
    )
    idle_timeout_s: float = setting(
        600.0,
        env="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS",
        help="Limit on silence within a response stream.",
        unit="s",
        check=_at_least(0.01),
    )
    codec: str = setting(
        "msgpack",
        env="DYN_REQUEST_PLANE_CODEC",
        help="Encoding of requests a worker asks its callers for.",
        check=_one_of("msgpack", "json"),
    )
    max_message_bytes: int = setting(
        32 * _MIB,
        env="DYN_TCP_MAX_MESSAGE_SIZE",
        help="Largest frame accepted.",
        unit="bytes",
        check=_at_least(1024),
    )
    connections_per_host: int = setting(
        4,
        env="MUSTER_TCP_CONNECTIONS_PER_HOST",
        help="Pipelined request connections a caller keeps to one worker.",
        check=_at_least(1),
    )
    inhibit_s: float = setting(
        5.0,
        env="DYN_RUNTIME_INHIBITED_DURATION_SECS",
        help="How long an instance that could not be reached gets no requests; 0 turns this off.",
        unit="s",
        check=_at_least(0),
    )
    request_limit: int = setting(
        10000,
        env="DYN_ENGINE_REQUEST_LIMIT",
        help="Requests a worker handles at a time; beyond it refuses.",
        check=_at_least(1),
    )
    drain_timeout_s: float = setting(
        900.0,
        env="DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS",
        help="How long a shutdown waits for requests in flight.",
        unit="s",
        check=_at_least(0),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SystemSettings:
    """The status server of a worker."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - Dynamo's default; a frontend on another machine must reach it
        env="DYN_SYSTEM_HOST",
        help="Address the status server listens on.",
    )
    port: int | None = setting(
        None,
        env="DYN_SYSTEM_PORT",
        help="Port of the status server; 0 lets the system pick, -1 turns it off.",
        unit="port",
        check=_port,
    )
    advertise_host: str | None = setting(
        None,
        env="MUSTER_ADVERTISE_HOST",
        help="Host put into addresses others use; by default what the status server is bound to.",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """How a worker serves its model's files."""

    self_host: bool = setting(
        True,
        env="DYN_SELF_HOST_METADATA",
        parse=self_host_switch,
        help="Whether a worker serves its model's metadata files itself.",
    )
    hub_cache: Path | None = setting(
        None,
        env="HF_HUB_CACHE",
        help="Cache in which a model given by its hub name is looked for.",
    )
    hf_home: Path | None = setting(
        None,
        env="HF_HOME",
        help="Hugging Face's directory; its hub directory is the cache if HF_HUB_CACHE is unset.",
    )
    max_extra_bytes: int = setting(
        64 * _MIB,
        env="MUSTER_METADATA_MAX_EXTRA_BYTES",
        help="Largest file that travels without a slot of its own; larger ones are left out.",
        unit="bytes",
        check=_at_least(0),
    )
    snapshot_directory: Path | None = setting(
        None,
        env="MUSTER_SNAPSHOT_DIR",
        help="Where a worker keeps its private copies of the files it serves; by default the "
        "temporary directory. They have no names there and go with the process.",
    )
    drift_interval_s: float = setting(
        10.0,
        env="MUSTER_DRIFT_CHECK_SECS",
        help="Interval at which a worker looks whether the files it registered have changed.",
        unit="s",
        check=_at_least(0.05),
    )
    transfers: int = setting(
        128,
        env="MUSTER_METADATA_TRANSFERS",
        help="Files a worker sends at a time; beyond it answers 503 with Retry-After.",
        check=_at_least(1),
    )
    token: str | None = setting(
        None,
        env="MUSTER_METADATA_TOKEN",
        help="Secret a worker asks for before it sends a file, and a frontend sends to workers.",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The frontend's cache of verified files."""

    directory: Path | None = setting(
        None,
        env="MUSTER_CACHE_DIR",
        help="Directory of the cache; by default muster in the user's cache directory.",
    )
    max_bytes: int | None = setting(
        None,
        env="MUSTER_CACHE_MAX_BYTES",
        help="Budget of the whole cache; files nobody uses make room. Unlimited by default.",
        unit="bytes",
        check=_at_least(0),
    )
    min_free_bytes: int = setting(
        64 * _MIB,
        env="MUSTER_CACHE_MIN_FREE_BYTES",
        help="Space a fetch leaves free on the cache's disk.",
        unit="bytes",
        check=_at_least(0),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """Limits on fetching a model's files."""

    connect_timeout_s: float = setting(
        10.0,
        env="MUSTER_FETCH_CONNECT_SECS",
        help="Limit on connecting to a source.",
        unit="s",
        check=_at_least(0.01),
    )
    idle_timeout_s: float = setting(
        30.0,
        env="MUSTER_FETCH_IDLE_SECS",
        help="Limit on silence while a file arrives.",
        unit="s",
        check=_at_least(0.01),
    )
    card_timeout_s: float = setting(
        300.0,
        env="MUSTER_FETCH_CARD_SECS",
        help="Limit on fetching all files of a card.",
        unit="s",
        check=_at_least(0.01),
    )
    parallel: int = setting(
        8,
        env="MUSTER_FETCH_PARALLEL",
        help="Files of one card fetched at a time.",
        check=_at_least(1),
    )
    max_file_bytes: int = setting(
        1 << 30,
        env="MUSTER_FETCH_MAX_BYTES",
        help="Largest metadata file accepted.",
        unit="bytes",
        check=_at_least(1),
    )
    max_card_bytes: int = setting(
        4 << 30,
        env="MUSTER_FETCH_MAX_CARD_BYTES",
        help="Most bytes accepted for all files of a card.",
        unit="bytes",
        check=_at_least(1),
    )
    max_files: int = setting(
        256,
        env="MUSTER_FETCH_MAX_FILES",
        help="Most files accepted of a card; further extra files are left out.",
        check=_at_least(1),
    )
    min_rate: int = setting(
        1024,
        env="MUSTER_FETCH_MIN_RATE",
        help="A source that gives less over ten seconds is left for another; 0 turns this off.",
        unit="bytes/s",
        check=_at_least(0),
    )
    hedge_s: float = setting(
        3.0,
        env="MUSTER_FETCH_HEDGE_SECS",
        help="How long a source may lag before a second one is asked beside it; 0 turns this off.",
        unit="s",
        check=_at_least(0),
    )
    allow: tuple[str, ...] = setting(
        (),
        env="MUSTER_FETCH_ALLOW",
        help="Hosts and networks, separated by commas, that files may be fetched from besides the "
        "instance that published the card: names, addresses, 10.0.0.0/8, or any.",
        parse=_words,
    )
    roots: tuple[Path, ...] = setting(
        (),
        env="MUSTER_FETCH_ROOTS",
        help="Directories, separated as in PATH, under which a card's local paths are believed, "
        "besides --model-path and the hub's cache.",
        parse=_paths,
    )
    hub_url: str | None = setting(
        None,
        env="MUSTER_FETCH_HUB",
        help="Model hub to ask when nobody else has a file, such as https://huggingface.co. "
        "None by default: nothing leaves the fleet.",
    )
    allow_code: bool = setting(
        False,
        env="MUSTER_FETCH_ALLOW_CODE",
        help="Whether files of code (*.py) that a card names are fetched.",
    )
    use_proxy: bool = setting(
        False,
        env="MUSTER_FETCH_USE_PROXY",
        help="Whether HTTP_PROXY and its kin apply to fetching.",
    )
    retry_max_s: float = setting(
        30.0,
        env="MUSTER_FETCH_RETRY_MAX_SECS",
        help="Longest pause between attempts at a card; they start at 1 s and double.",
        unit="s",
        check=_at_least(0.05),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The frontend's HTTP service."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - Dynamo's default for the public service
        env="DYN_HTTP_HOST",
        help="Address the frontend listens on.",
    )
    port: int = setting(
        8000,
        env="DYN_HTTP_PORT",
        help="Port the frontend listens on; 0 lets the system pick.",
        unit="port",
        check=_port,
    )
    body_limit_mb: int = setting(
        45,
        env="DYN_HTTP_BODY_LIMIT_MB",
        help="Largest request body.",
        unit="MB",
        check=_at_least(1),
    )
    router_mode: str = setting(
        "round-robin",
        env="DYN_ROUTER_MODE",
        help="How an instance is chosen for a request.",
        check=_one_of("round-robin", "random"),
    )
    model_path: Path | None = setting(
        None,
        env="DYN_MODEL_PATH",
        help="Directory with a model's files, used where a card's own location is out of reach.",
    )
    namespace: str | None = setting(
        None,
        env="DYN_NAMESPACE",
        help="Serve models of this namespace only.",
    )
    namespace_prefix: str | None = setting(
        None,
        env="DYN_NAMESPACE_PREFIX",
        help="Serve models of namespaces that start so; wins over the namespace.",
    )
    require_models: tuple[str, ...] = setting(
        (),
        env="MUSTER_REQUIRE_MODEL",
        help="Models, separated by commas, without which /health is 503.",
        parse=_words,
    )
    cohort_policy: str = setting(
        "first",
        env="MUSTER_COHORT_POLICY",
        help="Which card serves when replicas differ: the first seen, or the majority's.",
        check=_one_of("first", "majority"),
    )
    pins: tuple[str, ...] = setting(
        (),
        env="MUSTER_PIN_MODEL",
        help="Cards that alone may serve a model, as NAME=DIGEST (mdcsum or identity), separated by "
        "commas.",
        parse=_words,
    )
    drain_timeout_s: float = setting(
        30.0,
        env="DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS",
        help="How long a shutdown waits for responses in flight.",
        unit="s",
        check=_at_least(0),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    filter: str = setting(
        "info",
        env="DYN_LOG",
        help="Lowest level to log: error, warn, info, debug; or a list like info,muster.wire=debug.",
    )
    jsonl: bool = setting(
        False,
        env="DYN_LOGGING_JSONL",
        help="Log one JSON object a line instead of text.",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. ``Settings()`` has every default and reads nothing."""

    discovery: DiscoverySettings = group(DiscoverySettings)
    request_plane: RequestPlaneSettings = group(RequestPlaneSettings)
    system: SystemSettings = group(SystemSettings)
    metadata: MetadataSettings = group(MetadataSettings)
    cache: CacheSettings = group(CacheSettings)
    fetch: FetchSettings = group(FetchSettings)
    http: HttpSettings = group(HttpSettings)
    log: LogSettings = group(LogSettings)
    origins: Mapping[str, Origin] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def load(
        cls,
        *,
        flags: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> Settings:
        """Read all settings: flag, then environment, then file, then default.

        Args:
            flags: Values given on the command line, by ``group.field``; ``None`` means not given.
            environ: The environment; by default the process's.
            file: A TOML file with one table a group; by default the one ``MUSTER_CONFIG`` names.

        Raises:
            ConfigError: If the file or a value cannot be read, or a name in them is unknown.
        """
        environ = os.environ if environ is None else environ
        if file is None and environ.get("MUSTER_CONFIG"):
            file = Path(environ["MUSTER_CONFIG"])
        tables = _read_file(file) if file else {}
        flags = dict(flags or {})
        groups: dict[str, Any] = {}
        origins: dict[str, Origin] = {}
        for field in dataclasses.fields(cls):
            if field.name == "origins":
                continue
            factory: Any = field.default_factory
            own = {
                name.partition(".")[2]: flags.pop(name)
                for name in [*flags]
                if name.partition(".")[0] == field.name
            }
            groups[field.name], group_origins = load_group(
                factory, flags=own, environ=environ, file=tables.pop(field.name, {})
            )
            origins |= {f"{field.name}.{name}": origin for name, origin in group_origins.items()}
        if flags or tables:
            unknown = ", ".join(sorted([*flags, *tables]))
            raise ConfigError(f"unknown setting: {unknown}")
        return cls(**groups, origins=origins)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
