"""All settings of Muster, one group a part of it.

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

from muster.config.cache import CacheSettings
from muster.config.discovery import DiscoverySettings
from muster.config.etcd import EtcdSettings
from muster.config.fetch import FetchSettings
from muster.config.guard import GuardSettings
from muster.config.health import HealthSettings
from muster.config.http import HttpSettings
from muster.config.log import LogSettings
from muster.config.metadata import MetadataSettings, self_host_switch
from muster.config.nats import NatsSettings
from muster.config.processes import ProcessesSettings
from muster.config.request_plane import RequestPlaneSettings
from muster.config.request_tls import RequestTlsSettings
from muster.config.setting import Origin, group, load_group
from muster.config.system import SystemSettings
from muster.config.tracing import TracingSettings
from muster.errors import ConfigError

__all__ = [
    "CacheSettings",
    "DiscoverySettings",
    "EtcdSettings",
    "FetchSettings",
    "GuardSettings",
    "HealthSettings",
    "HttpSettings",
    "LogSettings",
    "MetadataSettings",
    "NatsSettings",
    "ProcessesSettings",
    "RequestPlaneSettings",
    "RequestTlsSettings",
    "Settings",
    "SystemSettings",
    "TracingSettings",
    "self_host_switch",
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. ``Settings()`` has every default and reads nothing."""

    discovery: DiscoverySettings = group(DiscoverySettings)
    etcd: EtcdSettings = group(EtcdSettings)
    request_plane: RequestPlaneSettings = group(RequestPlaneSettings)
    request_tls: RequestTlsSettings = group(RequestTlsSettings)
    nats: NatsSettings = group(NatsSettings)
    system: SystemSettings = group(SystemSettings)
    health: HealthSettings = group(HealthSettings)
    metadata: MetadataSettings = group(MetadataSettings)
    cache: CacheSettings = group(CacheSettings)
    fetch: FetchSettings = group(FetchSettings)
    http: HttpSettings = group(HttpSettings)
    guard: GuardSettings = group(GuardSettings)
    processes: ProcessesSettings = group(ProcessesSettings)
    log: LogSettings = group(LogSettings)
    tracing: TracingSettings = group(TracingSettings)
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
