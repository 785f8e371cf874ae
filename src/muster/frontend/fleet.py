"""The models of a registry, served: the shell around the catalog's decisions.

Watches cards, builds what the catalog asks for (fetch, verify, load, connect), and keeps the model
table as the catalog says. One model's trouble never waits for another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from muster.clock import SYSTEM_CLOCK, Clock
from muster.content.store import BlobStore
from muster.discovery.base import Watch
from muster.discovery.records import MODELS, Instance
from muster.errors import (
    DiscoveryError,
    MusterError,
    UntrustedSourceError,
    WorkerUnavailable,
)
from muster.frontend.build_notes import BuildNotes, OnModelProgress
from muster.frontend.explain import explain
from muster.frontend.file_table import FileTable
from muster.frontend.group_route import GroupRoute
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Capacity
from muster.frontend.journal import FleetJournal
from muster.frontend.lease_keeper import LeaseKeeper
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.model_build import BuiltModel, build_model
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.registry_reading import RegistryReading
from muster.frontend.replicas import replicas_of
from muster.frontend.report import FileReport, FleetReport
from muster.frontend.route_policy import RoutePolicy
from muster.frontend.served_card import capacity_of, served_model
from muster.frontend.served_model import Generate, ServedModel
from muster.frontend.unserved import unserved_models
from muster.frontend.variants import Variants
from muster.llm.tokenizer_pool import TokenizerPool
from muster.log import facts
from muster.model.catalog.catalog import Catalog
from muster.model.catalog.decision import Build, Decision, Drop, Members, Refuse
from muster.model.catalog.group import GroupKey
from muster.model.catalog.policy import CohortPolicy
from muster.model.catalog.reason import Reason
from muster.model.catalog.status import ModelState
from muster.model.catalog.status import ModelStatus as CardStatus
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.runtime import Client, DistributedRuntime
from muster.tasks import TaskOwner

__all__ = ["Fleet"]

logger = logging.getLogger(__name__)

_INSTANCE_S = 1.0
"""How long a build waits for an instance that is not in the registry yet; cards may come first."""
_LATE_INSTANCE_S = 600.0


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
        self._sampling_defaults = http.sampling_defaults
        self._runtime = runtime
        self._fetcher = fetcher
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
        self._builds: dict[GroupKey, asyncio.Task[None]] = {}
        self._variants: dict[str, Variants] = {}
        self._groups: dict[GroupKey, GroupRoute] = {}
        self._tasks = TaskOwner("fleet")
        self._wake = asyncio.Event()
        self._files: dict[tuple[GroupKey, str], FileTable] = {}
        self._leases = LeaseKeeper(store)
        self._tokenizers = TokenizerPool()
        self._awaited: set[GroupKey] = set()
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

    # -- watching ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve what the registry has, until cancelled.

        A registry that cannot be read leaves the last known models served and is tried again.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._retry())
                group.create_task(self._leases.run())
        finally:
            await self._tasks.close()

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
                    self._start(decision)
                case Drop():
                    self._drop(decision)
                case Members():
                    self._set_members(decision)
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

    def _start(self, build: Build) -> None:
        running = self._builds.pop(build.group, None)
        if running is not None:
            running.cancel()
        task = self._tasks.launch(self._build(build), name=f"build {build.group.model}")
        self._builds[build.group] = task

    def _drop(self, drop: Drop) -> None:
        running = self._builds.pop(drop.group, None)
        if running is not None:
            running.cancel()
        self._groups.pop(drop.group, None)
        for key in [key for key in self._files if key[0] == drop.group]:
            del self._files[key]
            self._leases.forget(key)
        name = drop.group.model
        variants = self._variants.get(name)
        if variants is None:
            return
        variants.drop(drop.group)
        if variants:
            self.table.add(variants.entry)
        else:
            del self._variants[name]
            self.table.remove(name)
            logger.info("model gone", extra=facts(model=name, reason=drop.message))

    def _set_members(self, decision: Members) -> None:
        group = self._groups.get(decision.group)
        if group is not None:
            group.members = frozenset(decision.instance_ids)

    # -- building ----------------------------------------------------------------------------

    async def _build(self, build: Build) -> None:
        files = self._files[build.group, build.mdcsum] = FileTable(build.members[0].card)
        notes = BuildNotes(build, files, self._catalog, self.journal, self._on_progress)
        replicas: list[Replica] = []
        client: Client | None = None
        digests = [file.checksum for file, _ in build.members[0].card.iter_metadata_files()]
        try:
            await self._leases.use((build.group, build.mdcsum), digests)
            client = await self._runtime.client_of(build.group.endpoint_id, self._routing.mode)
            replicas = await self._find_replicas(build, client)
            built = await build_model(replicas, self._fetcher, notes, self._tokenizers)
            self.table.check(build.group.model)
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
        decisions = self._catalog.built(build.build_id)
        if decisions:
            self._builds.pop(build.group, None)
            lora = built.card.lora
            policy = self._routing.for_card(built.card)
            route = GroupRoute(
                client,
                lora.name if lora is not None else None,
                mode=policy.mode,
                capacity=capacity_of(built.card),
            )
            self._groups[build.group] = route
            self._carry_out(decisions)
            self._serve(build, built, route, policy)

    async def _find_replicas(self, build: Build, client: Client) -> list[Replica]:
        """The build's members, with where their instances are; waits a little if none is known."""
        ids = {member.instance_id for member in build.members}
        if ids.isdisjoint(client.instance_ids()):
            with contextlib.suppress(WorkerUnavailable):
                await client.wait_for_instances(_INSTANCE_S)
        return replicas_of(build.members, client.instances(), client.free())

    async def _hurry_when_seen(self, build: Build, client: Client) -> None:
        """Try again at once when an instance of the endpoint appears."""
        try:
            await client.wait_for_instances(_LATE_INSTANCE_S)
        except WorkerUnavailable:
            return
        finally:
            self._awaited.discard(build.group)
        self._catalog.hurry(build.group, self._clock.monotonic())
        self._wake.set()

    def _failed(self, build: Build, code: str, message: str) -> None:
        now = self._clock.monotonic()
        self._catalog.failed(build.build_id, code=code, message=message, now=now)
        self._observe([build.group])
        self._wake.set()

    def _serve(
        self, build: Build, built: BuiltModel, route: GroupRoute, policy: RoutePolicy
    ) -> None:
        name = build.group.model
        known = self.table.find(name)
        created = known.created if known is not None else int(self._clock.wall())

        def capacities() -> dict[int, Capacity]:
            return {
                instance_id: group.capacity
                for key, group in self._groups.items()
                if key.model == name
                for instance_id in group.members
            }

        def served(generate: Generate) -> ServedModel:
            guarded = self.admission.around(name, generate, capacities, policy.thresholds)
            return served_model(
                build,
                built,
                created=created,
                generate=guarded,
                policy=policy,
                sampling_defaults=self._sampling_defaults,
            )

        variants = self._variants.get(name)
        if variants is None:
            busy = self.admission.busy(name)
            variants = self._variants[name] = Variants(self.migrations, busy)
        variants.drop(build.group)  # a challenger takes the place of the card that served
        variants.put(build.group, route, build.mdcsum, policy, served)
        self.table.add(variants.entry)
        logger.info(
            "model listed",
            extra=facts(model=name, mdcsum=build.mdcsum, instances=len(route.members)),
        )

    # -- looking -----------------------------------------------------------------------------

    def _unserved(self) -> Sequence[ModelStatus]:
        return unserved_models(self._catalog.status(), now=self._clock.monotonic())

    def report(self) -> FleetReport:
        """Everything known of every model and replica; ``status`` is for who judges to say."""
        models = explain(
            self._catalog.status(),
            now=self._clock.monotonic(),
            since=self.journal.since,
            files=self._files_of,
            instances=self._instances(),
            exclusions=self._exclusions,
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

    def _files_of(self, status: CardStatus) -> tuple[FileReport, ...]:
        if status.group is None:
            return ()
        table = self._files.get((status.group, status.mdcsum or ""))
        if table is None and status.members:
            table = FileTable(status.members[0].card)
        return table.reports() if table is not None else ()

    def cards(self) -> Sequence[CardStatus]:
        """What has become of each card, with the cards."""
        return self._catalog.status()

    def standing(self) -> dict[str, dict[int, str]]:
        """Why each instance of each served model gets no requests; empty for one that does."""
        found: dict[str, dict[int, str]] = {}
        for group, route in self._groups.items():
            reasons = route.exclusions()
            instances = found.setdefault(group.model, {})
            for instance_id in route.members:
                instances[instance_id] = reasons.get(instance_id, "")
        return found

    def _exclusions(self, group: GroupKey) -> Mapping[int, str]:
        route = self._groups.get(group)
        if route is None:
            return {}
        busy = self.admission.busy(group.model)() & route.members
        return dict.fromkeys(busy, "it is busy: beyond a threshold") | route.exclusions()

    def refusals(self) -> list[ModelStatus]:
        """Cards and records that are not served though others of their name may be, and why."""
        return [status for status in self._unserved() if status.state == ModelState.REFUSED]

    def groups(self) -> list[GroupKey]:
        """The groups that are served."""
        return [*self._groups]

    def _instances(self) -> Sequence[Instance]:
        return self._runtime.known_instances()

    async def close(self) -> None:
        """Call off running builds."""
        await self._tasks.close()
