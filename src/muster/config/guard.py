"""Settings of what protects the frontend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least, is_port, words
from muster.config.setting import setting

__all__ = ["GuardSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """API keys, TLS, CORS, the admin port, deadlines of slow clients, and the queue of a full model."""

    keys_file: Path | None = setting(
        None,
        env="MUSTER_API_KEYS_FILE",
        help="File of hashed API keys and their limits; turns keys on. Read again when it changes.",
    )
    client_key: str | None = setting(
        None,
        env="MUSTER_API_KEY",
        help="Key that muster ls, top and model send to a frontend which asks for an admin's; "
        "--api-key-file wins. A frontend itself does not read it.",
    )
    disable_admin: bool = setting(
        False,
        env="DYN_DISABLE_FRONTEND_ADMIN_API",
        help="Whether the admin routes (/busy_threshold, /v1/muster/*, /dashboard) are left out, on "
        "every port.",
    )
    metrics_key: bool = setting(
        False,
        env="MUSTER_METRICS_KEY",
        help="Whether /metrics asks for an admin key, too, where keys are on.",
    )
    admin_host: str = setting(
        "127.0.0.1",
        env="MUSTER_ADMIN_HOST",
        help="Address of the admin port. Where keys are on, an address that is not a loopback one "
        "makes it ask for an admin key.",
    )
    admin_port: int | None = setting(
        None,
        env="MUSTER_ADMIN_PORT",
        help="Port that alone answers the admin routes (/busy_threshold, /v1/muster/*, /dashboard); "
        "by default they are on the service's own port.",
        unit="port",
        check=is_port,
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        env="MUSTER_CORS_ORIGINS",
        help="Origins, separated by commas, whose pages may call the API; * for any. None by default.",
        parse=words,
    )
    tls_certificate: Path | None = setting(
        None,
        env="DYN_TLS_CERT_PATH",
        help="Certificate chain (PEM) of the frontend; turns TLS on. Read again when it changes.",
    )
    tls_key: Path | None = setting(
        None, env="DYN_TLS_KEY_PATH", help="Private key (PEM) of the frontend's certificate."
    )
    tls_client_ca: Path | None = setting(
        None,
        env="DYN_TLS_CLIENT_CA_CERT_PATH",
        help="Authorities (PEM) that must have signed the certificates of the frontend's clients.",
    )
    tls_handshake_timeout_s: float = setting(
        10.0,
        env="MUSTER_TLS_HANDSHAKE_TIMEOUT_SECS",
        help="Limit on a client's TLS handshake with the frontend.",
        unit="s",
        check=at_least(0.01),
    )
    reload_interval_s: float = setting(
        1.0,
        env="MUSTER_GUARD_RELOAD_SECS",
        help="How often the files of keys and certificates are looked at.",
        unit="s",
        check=at_least(0.01),
    )
    request_timeout_s: float = setting(
        30.0,
        env="MUSTER_HTTP_REQUEST_TIMEOUT_SECS",
        help="Limit on the arrival of a request's head, and on a silence within its body.",
        unit="s",
        check=at_least(0.01),
    )
    body_bytes_per_s: int = setting(
        8192,
        env="MUSTER_HTTP_BODY_BYTES_PER_SEC",
        help="How fast a request's body must come once the limit on its head has passed again.",
        unit="bytes/s",
        check=at_least(1),
    )
    write_timeout_s: float = setting(
        60.0,
        env="MUSTER_HTTP_WRITE_TIMEOUT_SECS",
        help="How long a client may leave its response unread before it is cut off.",
        unit="s",
        check=at_least(0.01),
    )
    queue_limit: int = setting(
        0,
        env="MUSTER_QUEUE_LIMIT",
        help="How many requests may wait for each model whose instances are all full; 0 refuses at "
        "once, as Dynamo does.",
        check=at_least(0),
    )
    queue_timeout_s: float = setting(
        30.0,
        env="MUSTER_QUEUE_TIMEOUT_SECS",
        help="How long a request may wait for a place.",
        unit="s",
        check=at_least(0),
    )
    active_decode_blocks: float | None = setting(
        None,
        env="DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD",
        help="Part of its instances' KV blocks, 0 to 1, beyond which a model is busy.",
        check=at_least(0),
    )
    active_prefill_tokens: int | None = setting(
        None,
        env="DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD",
        help="Prompt tokens per instance without a first output beyond which a model is busy.",
        unit="tokens",
        check=at_least(0),
    )
    active_prefill_tokens_frac: float | None = setting(
        None,
        env="DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC",
        help="The same as a multiple of max_num_batched_tokens.",
        check=at_least(0),
    )
    strict_parameters: bool = setting(
        False,
        env="MUSTER_STRICT_PARAMETERS",
        help="Whether requests with fields that nobody knows are refused; otherwise the fields are "
        "ignored and counted.",
    )
