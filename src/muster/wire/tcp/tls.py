"""TLS on the sockets of the request plane; reads files, so call it in a thread."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from muster.config.settings import RequestTlsSettings
from muster.errors import ConfigError

__all__ = [
    "CERTIFICATE_WANTED",
    "TLS_WANTED",
    "ClientTls",
    "ServerTls",
    "client_tls",
    "is_tls_record",
    "server_tls",
]

TLS_WANTED = "if it listens with TLS, DYN_TCP_TLS_CA_CERT_PATH must name its authorities here"
CERTIFICATE_WANTED = (
    "it may want a certificate of those who connect: DYN_TCP_TLS_CLIENT_CERT_PATH; it may not speak "
    "TLS at all"
)

_ALERT_OR_HANDSHAKE = b"\x15\x16"


def is_tls_record(data: bytes) -> bool:
    """Whether ``data`` begins as what TLS sends first, in one direction or the other.

    Read as messages of the request plane these bytes are lengths that nothing has.
    """
    return len(data) > 1 and data[0] in _ALERT_OR_HANDSHAKE and data[1] == 3


class ServerTls:
    """TLS of what we listen on."""

    def __init__(self, context: ssl.SSLContext, handshake_timeout_s: float) -> None:
        self._context = context
        self._timeout_s = handshake_timeout_s

    def options(self) -> dict[str, Any]:
        """Arguments for the event loop's ``create_server``."""
        return {"ssl": self._context, "ssl_handshake_timeout": self._timeout_s}


class ClientTls:
    """TLS of what we connect to."""

    def __init__(
        self, context: ssl.SSLContext, server_name: str | None, handshake_timeout_s: float
    ) -> None:
        self._context = context
        self._server_name = server_name
        self._timeout_s = handshake_timeout_s

    def options(self, host: str) -> dict[str, Any]:
        """Arguments for the event loop's ``create_connection`` to ``host``."""
        return {
            "ssl": self._context,
            "server_hostname": self._server_name or host,
            "ssl_handshake_timeout": self._timeout_s,
        }


def server_tls(settings: RequestTlsSettings) -> ServerTls | None:
    """How we listen; ``None`` without TLS.

    Raises:
        ConfigError: A file cannot be read, or one of a pair is missing.
    """
    if settings.certificate is None and settings.key is None:
        return None
    _check_pair(settings.certificate, settings.key, "DYN_TCP_TLS_CERT_PATH", "DYN_TCP_TLS_KEY_PATH")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(settings.certificate), settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error) from error
    return ServerTls(context, settings.handshake_timeout_s)


def client_tls(settings: RequestTlsSettings) -> ClientTls | None:
    """How we connect; ``None`` without TLS.

    Raises:
        ConfigError: A file cannot be read, or one of a pair is missing.
    """
    if settings.ca is None and not settings.insecure:
        return None
    shown, key = settings.client_certificate, settings.client_key
    _check_pair(shown, key, "DYN_TCP_TLS_CLIENT_CERT_PATH", "DYN_TCP_TLS_CLIENT_KEY_PATH")
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if shown is not None:
            context.load_cert_chain(shown, key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error) from error
    return ClientTls(context, settings.server_name, settings.handshake_timeout_s)


def _check_pair(one: Path | None, other: Path | None, name: str, other_name: str) -> None:
    if (one is None) != (other is None):
        raise ConfigError(f"{name} and {other_name} go together")


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(
        f"the certificates of the request plane cannot be used: {error}",
        hint="look at the files DYN_TCP_TLS_* name",
    )
