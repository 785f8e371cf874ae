"""What a worker does about its published files on its own: watch them, and try its own address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from muster.config.settings import MetadataSettings
from muster.content.snapshot import Snapshot
from muster.model.publish.drift import Drift
from muster.model.publish.drift_watcher import DriftWatcher
from muster.model.publish.self_probe import probe_address
from muster.runtime.metadata.registry import Artifact, MetadataArtifactRegistry, MetadataKey
from muster.runtime.metadata.route import format_path
from muster.tasks import TaskOwner

__all__ = ["Upkeep"]


class Upkeep:
    """The tasks that run beside a runtime's registrations, from the first one until it is closed.

    Args:
        settings: How often to look at files, and the token of the metadata route.
        registry: Is told which files have drifted.
    """

    def __init__(self, settings: MetadataSettings, registry: MetadataArtifactRegistry) -> None:
        self._token = settings.token
        self._watcher = DriftWatcher(settings.drift_interval_s, registry.set_drifted)
        self._watches = False
        self._probed: set[str] = set()
        self._closed = False
        self._tasks = TaskOwner("publisher's upkeep")

    def drift(self) -> tuple[Drift, ...]:
        """Files that are no longer as registered."""
        return self._watcher.drift()

    def watch(self, snapshots: Iterable[Snapshot]) -> None:
        """Watch the files of these snapshots, and no others."""
        held = [*snapshots]
        self._watcher.watch(held)
        if held and not self._watches and not self._closed:
            self._watches = True
            self._tasks.start(self._watcher.run(), name="drift")

    def probe(self, base_url: str | None, entries: Mapping[MetadataKey, Artifact]) -> None:
        """Try one of ``entries`` at ``base_url``, unless that address was tried before."""
        if base_url is None or base_url in self._probed or not entries or self._closed:
            return
        self._probed.add(base_url)
        key, artifact = next(iter(entries.items()))
        probe = probe_address(base_url + format_path(key), artifact.digest, token=self._token)
        self._tasks.start(probe, name="probe")

    async def close(self) -> None:
        """Stop, for good; idempotent."""
        self._closed = True
        await self._tasks.close()
