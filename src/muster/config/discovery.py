"""Where the registry is: settings of discovery."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least, one_of
from muster.config.setting import setting

__all__ = ["DiscoverySettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """Where records of who exists are kept."""

    backend: str = setting(
        "file",
        env="DYN_DISCOVERY_BACKEND",
        help="Registry to use: file (one machine), etcd, memory (one process; also spelled mem).",
        parse=lambda text: {"mem": "memory"}.get(text.strip() or "file", text.strip() or "file"),
        check=one_of("file", "etcd", "memory"),
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
        check=at_least(0.5),
    )
    poll_interval_s: float = setting(
        5.0,
        env="MUSTER_DISCOVERY_POLL_SECS",
        help="Interval of the full listing that backs up the operating system's notifications.",
        unit="s",
        check=at_least(0.1),
    )
