"""The models of a registry, served: the shell around the catalog's decisions.

Watches cards, asks the catalog what to do, and passes that on: to the builds, to the groups that are
served, and to the journal. One model's trouble never waits for another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

import msgspec

from muster.clock import SYSTEM_CLOCK, Clock
from muster.content.store import BlobStore
from muster.discovery.base import Watch
from muster.discovery.records import MODELS, Instance
from muster.errors import DiscoveryError
from muster.frontend.build_files import BuildFiles
from muster.frontend.build_notes import BuildNotes, OnModelProgress
from muster.frontend.builds import Builds
from muster.frontend.explain import explain
from muster.frontend.file_table import FileTable
from muster.frontend.guard.admission import Admission
from muster.frontend.journal import FleetJournal
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.model_build import BuiltModel
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.registry_reading import RegistryReading
from muster.frontend.report import FleetReport
from muster.frontend.route_policy import RoutePolicy
from muster.frontend.served_groups import ServedGroups
from muster.frontend.unserved import unserved_models
from muster.model.catalog.catalog import Catalog
from muster.model.catalog.decision import Build, Decision, Drop, Members, Refuse
from muster.model.catalog.group import GroupKey
from muster.model.catalog.policy import CohortPolicy
from muster.model.catalog.status import ModelState
from muster.model.catalog.status import ModelStatus as CardStatus
from muster.model.fetch.card_fetcher import CardFetcher
from muster.runtime import Client, DistributedRuntime

__all__ = ["Fleet"]

logger = logging.getLogger(__name__)


class Fleet:
    """Keeps a model table in step with the registry.

    Args:
        runtime: The frontend's runtime: its registry and its way to workers.
        fetcher: Fetches cards' files.
        clock: Where the time comes from.
        on_progress: Told each step of each file.
        store: Where the fetcher keeps files: what is used there is leased.

    Raises:
        ConfigError: The policy's settings make no sense.
    """

    def __init__(
        self,
        runtime: DistributedRuntime,
        fetcher: CardFetcher,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_progress: OnModelProgress | None = None,
        store: BlobStore | None = None,
    ) -> None:
        http = runtime.settings.http
        self._runtime = runtime
        self._clock = clock
        self._routing = RoutePolicy.of(http)
        self._on_progress = on_progress
        self._policy = CohortPolicy.parse(http.cohort_policy, http.pins)
        self._catalog = Catalog(
            retry_max_s=runtime.settings.fetch.retry_max_s,
            policy=self._policy,
            namespace=http.namespace,
            namespace_prefix=http.namespace_prefix,
        )
        self._wake = asyncio.Event()
        self._files = BuildFiles(store)
        self.admission = Admission(runtime.settings.guard)
        self.migrations = MigrationMetrics()
        self.registry = RegistryReading(runtime.discovery, clock)
        self.journal = FleetJournal(clock, self._catalog.status)
        self.table = ModelTable(
            unserved=self._unserved,
            instances=self._instances,
            registry=self.registry,
            report=self.report,
        )
        self._builds = Builds(
            runtime,
            fetcher,
            self._files,
            mode=self._routing.mode,
            watcher=self._notes,
            check=self.table.check,
            built=self._built,
            failed=self._failed,
            hurry=self._hurry,
        )
        self._served = ServedGroups(
            self.table,
            self.admission,
            self.migrations,
            clock,
            sampling_defaults=http.sampling_defaults,
        )

    # -- watching ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve what the registry has, until cancelled.

        A registry that cannot be read leaves the last known models served and is tried again.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._retry())
                group.create_task(self._files.run())
        finally:
            await self._builds.close()

    async def _watch(self) -> None:
        while True:
            try:
                async with self._runtime.discovery.watch(MODELS) as watch:
                    self._carry_out(self._catalog.sync(watch.snapshot))
                    self.registry.succeeded()
                    await self._follow(watch)
            except DiscoveryError as error:
                if self.registry.failed(error.message):
                    logger.warning("the registry cannot be read: %s", error)
            await asyncio.sleep(1.0)

    async def _follow(self, watch: Watch) -> None:
        async for change in watch:
            decisions = self._catalog.apply([change])
            self._carry_out(decisions)
            if not decisions:
                self.journal.observe()  # what nobody served may be gone

    async def _retry(self) -> None:
        """Start builds again when their pause is over."""
        while True:
            at = self._catalog.next_retry_at()
            pause = None if at is None else max(0.0, at - self._clock.monotonic())
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                self._carry_out(self._catalog.due(self._clock.monotonic()))

    # -- decisions ---------------------------------------------------------------------------

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Build():
                    self._builds.start(decision)
                case Drop():
                    self._drop(decision)
                case Members():
                    self._served.set_members(decision)
                case Refuse():
                    pass  # the journal says it, with everything else that has changed
        self._observe(dict.fromkeys(decision.group for decision in decisions))

    def _observe(self, groups: Iterable[GroupKey | None]) -> None:
        """Let the journal see what has become of these groups; of all, for ``None`` among them."""
        groups = [*groups]
        if None in groups:
            self.journal.observe()
            return
        for group in filter(None, groups):
            self.journal.observe_group(group, self._catalog.status_of(group))

    def _drop(self, drop: Drop) -> None:
        self._builds.cancel(drop.group)
        self._files.forget(drop.group)
        self._served.drop(drop)

    # -- building ----------------------------------------------------------------------------

    def _notes(self, build: Build, files: FileTable) -> BuildNotes:
        return BuildNotes(build, files, self._catalog, self.journal, self._on_progress)

    def _built(self, build: Build, built: BuiltModel, client: Client) -> None:
        decisions = self._catalog.built(build.build_id)
        if not decisions:
            return  # it has been called off, or another one took its place
        self._builds.forget(build.group)
        policy = self._routing.for_card(built.card)
        route = self._served.connect(build.group, client, built.card, policy)
        self._carry_out(decisions)  # its members, first of all
        self._served.add(build, built, route, policy)

    def _failed(self, build: Build, code: str, message: str) -> None:
        now = self._clock.monotonic()
        self._catalog.failed(build.build_id, code=code, message=message, now=now)
        self._observe([build.group])
        self._wake.set()

    def _hurry(self, group: GroupKey) -> None:
        self._catalog.hurry(group, self._clock.monotonic())
        self._wake.set()

    # -- looking -----------------------------------------------------------------------------

    def _unserved(self) -> Sequence[ModelStatus]:
        return unserved_models(self._catalog.status(), now=self._clock.monotonic())

    def report(self) -> FleetReport:
        """Everything known of every model and replica; ``status`` is for who judges to say."""
        models = explain(
            self._catalog.status(),
            now=self._clock.monotonic(),
            since=self.journal.since,
            files=self._files.reports,
            instances=self._instances(),
            exclusions=self._served.exclusions,
        )
        pinned = " with pins" if self._policy.pins else ""
        stale = self.registry.staleness()
        return FleetReport(
            status="",
            policy=f"{self._policy.rule}{pinned}",
            stale_since=None if stale is None else stale.since,
            models=models,
            registry=self.registry.report() or msgspec.UNSET,
        )

    def cards(self) -> Sequence[CardStatus]:
        """What has become of each card, with the cards."""
        return self._catalog.status()

    def standing(self) -> dict[str, dict[int, str]]:
        """Why each instance of each served model gets no requests; empty for one that does."""
        return self._served.standing()

    def refusals(self) -> list[ModelStatus]:
        """Cards and records that are not served though others of their name may be, and why."""
        return [status for status in self._unserved() if status.state == ModelState.REFUSED]

    def groups(self) -> list[GroupKey]:
        """The groups that are served."""
        return self._served.keys()

    def _instances(self) -> Sequence[Instance]:
        return self._runtime.known_instances()

    async def close(self) -> None:
        """Call off running builds."""
        await self._builds.close()
