"""The builds under way, one a group at most: the I/O between a decision to build and its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from muster.errors import MusterError, UntrustedSourceError, WorkerUnavailable
from muster.frontend.build_files import BuildFiles
from muster.frontend.file_table import FileTable
from muster.frontend.model_build import BuildWatcher, BuiltModel, build_model
from muster.frontend.replicas import replicas_of
from muster.llm.tokenizer_pool import TokenizerPool
from muster.log import facts
from muster.model.catalog.decision import Build
from muster.model.catalog.group import GroupKey
from muster.model.catalog.reason import Reason
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.runtime import Client, DistributedRuntime, RouterMode
from muster.tasks import TaskOwner

__all__ = ["Builds"]

logger = logging.getLogger(__name__)

_INSTANCE_S = 1.0
"""How long a build waits for an instance that is not in the registry yet; cards may come first."""
_LATE_INSTANCE_S = 600.0


class Builds:
    """Carries out builds: finds the group's instances, has its files fetched and loaded.

    The callbacks are called on the event loop.

    Args:
        runtime: The way to workers.
        fetcher: Fetches cards' files.
        files: Where the files of each build are noted and held.
        mode: How clients of the groups' endpoints choose an instance.
        watcher: Makes who is told how a build gets on.
        check: Raises a ``MusterError`` if nothing can be served under this name.
        built: A build is through: the model, and a client of its endpoint.
        failed: A build is not: a code, and a message that says what to do if anybody knows.
        hurry: Told of a group that failed for want of an instance when its endpoint has one.
    """

    def __init__(
        self,
        runtime: DistributedRuntime,
        fetcher: CardFetcher,
        files: BuildFiles,
        *,
        mode: RouterMode,
        watcher: Callable[[Build, FileTable], BuildWatcher],
        check: Callable[[str], None],
        built: Callable[[Build, BuiltModel, Client], None],
        failed: Callable[[Build, str, str], None],
        hurry: Callable[[GroupKey], None],
    ) -> None:
        self._runtime = runtime
        self._fetcher = fetcher
        self._files = files
        self._mode = mode
        self._watcher = watcher
        self._check = check
        self._built = built
        self._failed = failed
        self._hurry = hurry
        self._tokenizers = TokenizerPool()
        self._running: dict[GroupKey, asyncio.Task[None]] = {}
        self._awaited: set[GroupKey] = set()
        self._tasks = TaskOwner("builds")

    def start(self, build: Build) -> None:
        """Begin a build, in the place of one of the same group that is under way."""
        self.cancel(build.group)
        task = self._tasks.launch(self._build(build), name=f"build {build.group.model}")
        self._running[build.group] = task

    def cancel(self, group: GroupKey) -> None:
        """Call off a group's build; a no-op if there is none."""
        running = self._running.pop(group, None)
        if running is not None:
            running.cancel()

    def forget(self, group: GroupKey) -> None:
        """A group's build is through: whoever drops the group now has nothing to call off."""
        self._running.pop(group, None)

    async def close(self) -> None:
        """Call off all of them. Idempotent."""
        await self._tasks.close()

    async def _build(self, build: Build) -> None:
        watcher = self._watcher(build, self._files.begin(build))
        replicas: list[Replica] = []
        client: Client | None = None
        try:
            await self._files.hold(build)
            client = await self._runtime.client_of(build.group.endpoint_id, self._mode)
            replicas = await self._find_replicas(build, client)
            built = await build_model(replicas, self._fetcher, watcher, self._tokenizers)
            self._check(build.group.model)
        except MusterError as error:
            code, message = error.code, error.message
            nowhere = client is not None and not any(replica.host for replica in replicas)
            if nowhere and isinstance(error, UntrustedSourceError):
                code = Reason.NO_INSTANCE
                message = f"its instance is not in the registry, so whom to believe? {message}"
            self._failed(build, code, f"{message}; {error.hint}" if error.hint else message)
            if client is not None and nowhere and build.group not in self._awaited:
                self._awaited.add(build.group)
                self._tasks.start(self._hurry_when_seen(build, client), name="wait for an instance")
            return
        except Exception as error:
            # A mistake of ours with one model's files must not take the other models along.
            logger.exception("building a model broke", extra=facts(model=build.group.model))
            self._failed(build, Reason.INTERNAL, f"{type(error).__name__}: {error}")
            return
        self._built(build, built, client)

    async def _find_replicas(self, build: Build, client: Client) -> list[Replica]:
        """The build's members, with where their instances are; waits a little if none is known."""
        ids = {member.instance_id for member in build.members}
        if ids.isdisjoint(client.instance_ids()):
            with contextlib.suppress(WorkerUnavailable):
                await client.wait_for_instances(_INSTANCE_S)
        return replicas_of(build.members, client.instances(), client.free())

    async def _hurry_when_seen(self, build: Build, client: Client) -> None:
        """Say so when an instance of the endpoint appears."""
        try:
            await client.wait_for_instances(_LATE_INSTANCE_S)
        except WorkerUnavailable:
            return
        finally:
            self._awaited.discard(build.group)
        self._hurry(build.group)
