"""Where etcd is, and how it is spoken to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least, words
from muster.config.setting import setting

__all__ = ["EtcdSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """The registry in etcd; read where the discovery backend is ``etcd``."""

    endpoints: tuple[str, ...] = setting(
        ("http://localhost:2379",),
        env="ETCD_ENDPOINTS",
        help="Servers of the cluster, separated by commas; the next one is asked when one fails.",
        parse=lambda text: words(text) or ("http://localhost:2379",),
    )
    username: str | None = setting(None, env="ETCD_AUTH_USERNAME", help="User to log in as.")
    password: str | None = setting(None, env="ETCD_AUTH_PASSWORD", help="The user's password.")
    ca: Path | None = setting(
        None,
        env="ETCD_AUTH_CA",
        help="Certificates (PEM) that sign the servers'; by default the system's.",
    )
    client_cert: Path | None = setting(
        None, env="ETCD_AUTH_CLIENT_CERT", help="Certificate (PEM) to show to the servers."
    )
    client_key: Path | None = setting(
        None, env="ETCD_AUTH_CLIENT_KEY", help="Private key (PEM) of the client certificate."
    )
    lease_ttl_s: int = setting(
        30,
        env="ETCD_LEASE_TTL",
        help="How long a process's records outlive it, if it dies without a word.",
        unit="s",
        check=at_least(1),
    )
    keepalive_interval_s: float | None = setting(
        None,
        env="ETCD_KEEPALIVE_INTERVAL_SECONDS",
        help="Pause between keep-alives of the lease; by default a third of its time to live.",
        unit="s",
        check=at_least(0.05),
    )
    request_timeout_s: float = setting(
        5.0,
        env="ETCD_KEEPALIVE_TIMEOUT_SECONDS",
        help="Limit on one answer of one server, keep-alives included.",
        unit="s",
        check=at_least(0.05),
    )
    startup_timeout_s: float = setting(
        10.0,
        env="ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS",
        help="How long a process that starts waits for a server to answer.",
        unit="s",
        check=at_least(0),
    )
