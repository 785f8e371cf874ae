"""Where NATS is, and who we are there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least
from muster.config.setting import setting

__all__ = ["NatsSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """The NATS servers requests travel over where the request plane is ``nats``."""

    server: str | None = setting(
        None,
        env="NATS_SERVER",
        help="Servers, separated by commas; nats://localhost:4222 if the request plane is nats. A "
        "process of another plane that has it can call instances over NATS.",
    )
    username: str | None = setting(
        None, env="NATS_AUTH_USERNAME", help="User; by default user, as Dynamo's."
    )
    password: str | None = setting(
        None, env="NATS_AUTH_PASSWORD", help="The user's password; by default user."
    )
    token: str | None = setting(
        None, env="NATS_AUTH_TOKEN", help="Token to log in with instead of a user."
    )
    nkey: Path | None = setting(
        None, env="NATS_AUTH_NKEY", help="File with the seed of a key to log in with."
    )
    credentials: Path | None = setting(
        None, env="NATS_AUTH_CREDENTIALS_FILE", help="Credentials file to log in with."
    )
    ca: Path | None = setting(
        None, env="NATS_TLS_CA_CERT_PATH", help="Authorities (PEM) that sign the servers'."
    )
    client_certificate: Path | None = setting(
        None, env="NATS_TLS_CLIENT_CERT_PATH", help="Certificate (PEM) to show to the servers."
    )
    client_key: Path | None = setting(
        None, env="NATS_TLS_CLIENT_KEY_PATH", help="Private key (PEM) of that certificate."
    )
    insecure: bool = setting(
        False, env="NATS_TLS_INSECURE", help="Whether to use TLS without checking anything."
    )
    request_timeout_s: float = setting(
        10.0,
        env="DYN_NATS_REQUEST_TIMEOUT_SECS",
        help="Limit on the worker's acknowledgement of a request.",
        unit="s",
        check=at_least(0.01),
    )
    startup_timeout_s: float = setting(
        10.0,
        env="NATS_STARTUP_CONNECT_TIMEOUT_SECONDS",
        help="How long a process that starts waits for a server to answer.",
        unit="s",
        check=at_least(0.01),
    )
