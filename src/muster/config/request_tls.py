"""TLS of the request plane over TCP."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least
from muster.config.setting import setting

__all__ = ["RequestTlsSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestTlsSettings:
    """TLS between callers and workers; off by default.

    As with Dynamo 1.6.1 each process decides by itself: what it listens on speaks TLS if it has a
    certificate, what it connects to must speak TLS if it has authorities to check it by. A caller
    listens too (workers connect back with responses), so both ends need both.
    """

    certificate: Path | None = setting(
        None,
        env="DYN_TCP_TLS_CERT_PATH",
        help="Certificate (PEM) of what this process listens on; turns TLS on there.",
    )
    key: Path | None = setting(
        None, env="DYN_TCP_TLS_KEY_PATH", help="Private key (PEM) of that certificate."
    )
    client_ca: Path | None = setting(
        None,
        env="DYN_TCP_TLS_CLIENT_CA_CERT_PATH",
        help="Authorities (PEM) that must have signed the certificates of those who connect.",
    )
    ca: Path | None = setting(
        None,
        env="DYN_TCP_TLS_CA_CERT_PATH",
        help="Authorities (PEM) by which what this process connects to is checked; turns TLS on there.",
    )
    insecure: bool = setting(
        False,
        env="DYN_TCP_TLS_INSECURE",
        help="Whether to connect with TLS without checking anything; for trials.",
    )
    client_certificate: Path | None = setting(
        None,
        env="DYN_TCP_TLS_CLIENT_CERT_PATH",
        help="Certificate (PEM) to show when connecting.",
    )
    client_key: Path | None = setting(
        None,
        env="DYN_TCP_TLS_CLIENT_KEY_PATH",
        help="Private key (PEM) of the certificate shown when connecting.",
    )
    server_name: str | None = setting(
        None,
        env="DYN_TCP_TLS_SERVER_NAME",
        help="Name the certificates of others must have; by default the address connected to.",
    )
    handshake_timeout_s: float = setting(
        3.0,
        env="DYN_TCP_TLS_HANDSHAKE_TIMEOUT_SECS",
        help="Limit on a handshake.",
        unit="s",
        check=at_least(0.01),
    )
