"""The guard of one frontend: its files, its doors, and the task that reads the files again."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from muster.config.guard import GuardSettings
from muster.errors import ConfigError
from muster.frontend.guard.access import Rules, is_admin_path
from muster.frontend.guard.cors import Cors
from muster.frontend.guard.door import Door, Keeper
from muster.frontend.guard.keys import KeyRing, parse_keys
from muster.frontend.guard.limiter import Limiter
from muster.frontend.guard.metrics import GuardMetrics
from muster.frontend.guard.tls import FrontendTls
from muster.frontend.guard.watched import Stamp, stamp_of, watch_files
from muster.log import facts
from muster.tasks import TaskOwner

__all__ = ["Guard", "load_keys"]

logger = logging.getLogger(__name__)

_ON_BOTH = frozenset({"/health", "/live", "/metrics"})


def load_keys(path: Path) -> KeyRing:
    """Read a file of keys; blocks.

    Raises:
        ConfigError: It cannot be read or understood.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the file of keys {path} cannot be read: {error}",
            hint="muster keys new NAME makes a key and the line for the file",
        ) from error
    return parse_keys(text, source=str(path))


class Guard:
    """Keys, limits, CORS, the admin port and TLS of one frontend.

    Args:
        settings: What is wanted.
        registry: Where its metrics are exposed.
        limiter: Keeps what holders of keys use, if others use it as well.

    Attributes:
        door: What requests on the service's own port pass; ``None`` if there is nothing to pass.
        admin_door: The same on the admin port; ``None`` if there is none.
    """

    def __init__(
        self,
        settings: GuardSettings,
        registry: CollectorRegistry,
        limiter: Limiter | None = None,
    ) -> None:
        self._settings = settings
        self._tls: FrontendTls | None = None
        self._tasks = TaskOwner("guard")
        metrics = GuardMetrics()
        self._keeper = Keeper(metrics, limiter)
        if settings.keys_file is not None:
            registry.register(metrics)
        self.door = self._own_door()
        self.admin_door = self._admin_door()

    def _own_door(self) -> Door | None:
        settings = self._settings
        apart = settings.admin_port is not None or settings.disable_admin
        if settings.keys_file is None and not settings.cors_origins and not apart:
            return None
        return Door(
            self._keeper,
            Rules(metrics_key=settings.metrics_key, admin_key=True),
            shows=(lambda path: not is_admin_path(path)) if apart else None,
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
        )

    def _admin_door(self) -> Door | None:
        settings = self._settings
        if settings.admin_port is None or settings.disable_admin:
            return None
        guarded = not _is_loopback(settings.admin_host)
        return Door(
            self._keeper,
            Rules(metrics_key=settings.metrics_key and guarded, admin_key=guarded),
            shows=lambda path: path in _ON_BOTH or is_admin_path(path),
        )

    async def start(self) -> dict[str, Any]:
        """Read the files, and go on watching them until ``close``.

        Returns:
            Arguments for ``create_server`` of the service's own port: its TLS, if any.

        Raises:
            ConfigError: A file cannot be used.
        """
        settings, options = self._settings, dict[str, Any]()
        if settings.keys_file is not None:
            load = functools.partial(load_keys, settings.keys_file)
            stamp = await asyncio.to_thread(stamp_of, [settings.keys_file])
            self._keeper.use(await asyncio.to_thread(load))
            self._warn_if_empty()
            self._watch([settings.keys_file], stamp, load, self._use_keys, "keys")
        files = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        paths = [path for path in files if path is not None]
        stamp = await asyncio.to_thread(stamp_of, paths)
        self._tls = await asyncio.to_thread(FrontendTls.of, settings)
        if self._tls is not None:
            options = self._tls.options()
            self._watch(paths, stamp, self._tls.load, self._use_tls, "certificates")
        return options

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        await self._tasks.close()

    def _watch(self, paths: list[Path], stamp: Stamp, load: Any, use: Any, name: str) -> None:
        work = watch_files(paths, stamp, load, use, interval_s=self._settings.reload_interval_s)
        self._tasks.start(work, name=name)

    def _use_keys(self, ring: KeyRing) -> None:
        self._keeper.use(ring)
        logger.info("keys read again", extra=facts(keys=len(ring), holders=len(ring.names)))
        self._warn_if_empty()

    def _use_tls(self, context: Any) -> None:
        if self._tls is not None:
            self._tls.use(context)
            logger.info("certificates read again")

    def _warn_if_empty(self) -> None:
        if not self._keeper.ring:
            logger.warning("the file of keys has none: nobody may use the API")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
