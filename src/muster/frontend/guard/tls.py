"""TLS of the frontend: certificates that may be exchanged while it runs."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from muster.config.guard import GuardSettings
from muster.errors import ConfigError

__all__ = ["FrontendTls"]


class FrontendTls:
    """What a frontend shows to its clients, and what it asks of them; TLS 1.2 or newer.

    The listener keeps one context for its whole life, which hands every new connection over to the
    present one: connections that are there are not disturbed. Sessions are not resumed where
    clients show certificates, so that an authority that is no longer trusted counts at once.

    Args:
        settings: Names of the files.

    Raises:
        ConfigError: A file cannot be read, does not fit the others, or is missing.
    """

    def __init__(self, settings: GuardSettings) -> None:
        if settings.tls_certificate is None or settings.tls_key is None:
            raise ConfigError(
                "the frontend's certificate and its key go together",
                hint="--tls-cert-path (DYN_TLS_CERT_PATH) and --tls-key-path (DYN_TLS_KEY_PATH)",
            )
        self._certificate, self._key = settings.tls_certificate, settings.tls_key
        self._client_ca = settings.tls_client_ca
        self._timeout_s = settings.tls_handshake_timeout_s
        self._present = self.load()
        self._listener = self._present
        self._listener.sni_callback = self._hand_over

    @classmethod
    def of(cls, settings: GuardSettings) -> FrontendTls | None:
        """The same; ``None`` if no file is named.

        Raises:
            ConfigError: As above.
        """
        files = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        return None if files == (None, None, None) else cls(settings)

    @property
    def paths(self) -> list[Path]:
        """Its files."""
        own = [self._certificate, self._key]
        return own if self._client_ca is None else [*own, self._client_ca]

    def load(self) -> ssl.SSLContext:
        """Read the files; blocks.

        Raises:
            ConfigError: They cannot be used.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            # Without a password an encrypted key would be asked for on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
                context.options |= ssl.OP_NO_TICKET
                context.num_tickets = 0
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(map(str, self.paths))
            raise ConfigError(
                f"the certificates of the frontend cannot be used ({names}): {error}",
                hint="they are PEM files: a certificate chain, its key without a password, authorities",
            ) from error
        return context

    def use(self, context: ssl.SSLContext) -> None:
        """From now on, new connections get ``context``."""
        self._present = context

    def options(self) -> dict[str, Any]:
        """Arguments for the event loop's ``create_server``."""
        return {"ssl": self._listener, "ssl_handshake_timeout": self._timeout_s}

    def _hand_over(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: ssl.SSLContext
    ) -> None:
        if connection.context is not self._present:
            connection.context = self._present
