"""The models of a registry, served: the shell around the catalog's decisions.

Watches cards, builds what the catalog asks for (fetch, verify, load, connect), and keeps the model
table as the catalog says. One model's trouble never waits for another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from muster.clock import SYSTEM_CLOCK, Clock
from muster.discovery.base import Watch
from muster.discovery.records import MODELS, Instance
from muster.errors import CardError, ContentError, DiscoveryError, MusterError
from muster.frontend.model_route import GroupRoute, ModelRoute
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.served_model import ServedModel
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.catalog import Catalog
from muster.model.decision import Build, Decision, Drop, Members, Refuse
from muster.model.fetch import CardFetcher
from muster.model.group import GroupKey, Member
from muster.model.model_type import ModelInput, ModelType
from muster.model.resolved import FetchProgress, FetchState, ResolvedCard
from muster.model.status import ModelState
from muster.runtime import DistributedRuntime, RouterMode
from muster.tasks import TaskOwner

__all__ = ["Fleet"]

logger = logging.getLogger(__name__)

_RELIST_S = 30.0
"""How often everything is listed anew, as a net under the watch."""


class Fleet:
    """Keeps a model table in step with the registry.

    Args:
        runtime: The frontend's runtime: its registry and its way to workers.
        fetcher: Fetches cards' files.
        clock: Where the time comes from.
    """

    def __init__(
        self, runtime: DistributedRuntime, fetcher: CardFetcher, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        http = runtime.settings.http
        self._runtime = runtime
        self._fetcher = fetcher
        self._clock = clock
        self._mode = RouterMode(http.router_mode)
        self._catalog = Catalog(
            retry_max_s=runtime.settings.fetch.retry_max_s,
            namespace=http.namespace,
            namespace_prefix=http.namespace_prefix,
        )
        self._builds: dict[GroupKey, asyncio.Task[None]] = {}
        self._routes: dict[str, ModelRoute] = {}
        self._groups: dict[GroupKey, GroupRoute] = {}
        self._tasks = TaskOwner("fleet")
        self._wake = asyncio.Event()
        self._stale: str | None = None
        self.table = ModelTable(unserved=self._unserved, instances=self._instances)

    # -- watching ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve what the registry has, until cancelled.

        A registry that cannot be read leaves the last known models served and is tried again.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._retry())
        finally:
            await self._tasks.close()

    async def _watch(self) -> None:
        while True:
            try:
                async with self._runtime.discovery.watch(MODELS) as watch:
                    self._carry_out(self._catalog.sync(watch.snapshot))
                    self._stale = None
                    await self._follow(watch)
            except DiscoveryError as error:
                if self._stale is None:
                    logger.warning("the registry cannot be read: %s", error)
                self._stale = error.message
            await asyncio.sleep(1.0)

    async def _follow(self, watch: Watch) -> None:
        async for change in watch:
            self._carry_out(self._catalog.apply([change]))

    async def _retry(self) -> None:
        """Start builds again when their pause is over."""
        while True:
            at = self._catalog.next_retry_at()
            pause = _RELIST_S if at is None else max(0.0, at - self._clock.monotonic())
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                self._carry_out(self._catalog.due(self._clock.monotonic()))

    # -- decisions ---------------------------------------------------------------------------

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Build():
                    self._start(decision)
                case Drop():
                    self._drop(decision)
                case Members():
                    self._set_members(decision)
                case Refuse():
                    logger.error(
                        "model refused",
                        extra=facts(
                            model=decision.model,
                            key=decision.key,
                            code=decision.code,
                            reason=decision.message,
                        ),
                    )

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
        route = self._routes.get(drop.group.model)
        if route is None:
            return
        route.drop(drop.group)
        if not route:
            del self._routes[drop.group.model]
            self.table.remove(drop.group.model)
            logger.info("model gone", extra=facts(model=drop.group.model, reason=drop.message))

    def _set_members(self, decision: Members) -> None:
        group = self._groups.get(decision.group)
        if group is not None:
            group.members = frozenset(decision.instance_ids)

    # -- building ----------------------------------------------------------------------------

    async def _build(self, build: Build) -> None:
        try:
            card, preprocessor = await self._prepare(build)
            client = await self._runtime.client_of(build.group.endpoint_id, self._mode)
        except MusterError as error:
            self._failed(build, error.code, error.message)
            return
        except Exception as error:
            # A mistake of ours with one model's files must not take the other models along.
            logger.exception("building a model broke", extra=facts(model=build.group.model))
            self._failed(build, "internal", f"{type(error).__name__}: {error}")
            return
        decisions = self._catalog.built(build.build_id)
        if decisions:
            self._builds.pop(build.group, None)
            route = GroupRoute(client, card.lora.name if card.lora is not None else None)
            self._groups[build.group] = route
            self._carry_out(decisions)
            self._list(build, card, preprocessor, route)

    def _failed(self, build: Build, code: str, message: str) -> None:
        now = self._clock.monotonic()
        self._catalog.failed(build.build_id, code=code, message=message, now=now)
        self._wake.set()
        logger.warning(
            "model cannot be served; will try again",
            extra=facts(
                model=build.group.model, attempt=build.attempt + 1, code=code, reason=message
            ),
        )

    async def _prepare(self, build: Build) -> tuple[ModelDeploymentCard, Preprocessor]:
        """Fetch the card's files from the first member that gives them, and load them."""
        card = build.members[0].card
        if card.model_input is not ModelInput.Tokens:
            raise CardError(
                f"workers that take {card.model_input.name} are not served by this version",
                hint="register the model with ModelInput.Tokens",
            )
        if not card.model_type & (ModelType.Chat | ModelType.Completions):
            raise CardError(f"no surface served here: {card.model_type or 'none'}")
        resolved = await self._resolve(build)
        self._catalog.loading(build.build_id)
        preprocessor = await asyncio.to_thread(
            Preprocessor.load, _files(resolved), context_length=card.context_length
        )
        return card, preprocessor

    async def _resolve(self, build: Build) -> ResolvedCard:
        failure: ContentError | None = None
        for member in build.members:
            try:
                return await self._resolve_from(build, member)
            except ContentError as error:
                failure = failure or error
                logger.info(
                    "a replica's files cannot be had; trying the next",
                    extra=facts(model=build.group.model, key=member.key, reason=error.message),
                )
        assert failure is not None  # noqa: S101 - a build has members
        raise failure

    async def _resolve_from(self, build: Build, member: Member) -> ResolvedCard:
        done: set[str] = set()
        total = sum(1 for _ in member.card.iter_metadata_files())

        def note(progress: FetchProgress) -> None:
            _log_progress(build.group.model, progress)
            if progress.state is not FetchState.FETCHING:
                done.add(progress.name)
            self._catalog.fetching(build.build_id, files_done=len(done), files_total=total)

        return await self._fetcher.resolve(member.card, note)

    def _list(
        self,
        build: Build,
        card: ModelDeploymentCard,
        preprocessor: Preprocessor,
        group: GroupRoute,
    ) -> None:
        name = build.group.model
        route = self._routes.setdefault(name, ModelRoute())
        route.put(build.group, group)
        known = self.table.find(name)
        try:
            self.table.add(
                ServedModel(
                    name=name,
                    created=known.created if known is not None else int(self._clock.wall()),
                    preprocessor=preprocessor,
                    generate=route.generate,
                    context_length=card.context_length,
                    aliases=card.aliases,
                    chat=bool(card.model_type & ModelType.Chat) and preprocessor.serves_chat,
                    completions=bool(card.model_type & ModelType.Completions),
                    mdc_sum=build.mdcsum,
                )
            )
        except MusterError as error:
            logger.error("model not listed", extra=facts(model=name, reason=error.message))  # noqa: TRY400
            return
        logger.info(
            "model listed",
            extra=facts(model=name, mdcsum=build.mdcsum, instances=len(group.members)),
        )

    # -- looking -----------------------------------------------------------------------------

    def _unserved(self) -> Sequence[ModelStatus]:
        now = self._clock.monotonic()
        found = []
        for status in self._catalog.status():
            if status.state is ModelState.SERVING:
                continue
            message = status.message
            if status.state is ModelState.FETCHING and not message:
                message = f"{status.files_done} of {status.files_total} files"
            if status.retry_at is not None:
                pause = max(0.0, status.retry_at - now)
                message += f" (attempt {status.attempt}, next in {pause:.0f} s)"
            found.append(
                ModelStatus(
                    model=status.model,
                    state=status.state,
                    reason=status.code,
                    message=message,
                    mdcsum=status.mdcsum or "",
                )
            )
        return found

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


def _files(resolved: ResolvedCard) -> ModelFiles:
    """Where the loader finds each file."""
    card = resolved.card
    if card.tokenizer is None or card.tokenizer.file.path is None:
        raise CardError(
            f"the card of {card.display_name!r} names no tokenizer",
            hint="the model's directory needs a tokenizer.json",
        )

    def path(slot: object) -> Path | None:
        location = getattr(getattr(slot, "file", None), "path", None)
        return Path(location) if location is not None else None

    return ModelFiles(
        tokenizer=Path(card.tokenizer.file.path),
        config=path(card.model_info),
        tokenizer_config=path(card.prompt_formatter),
        chat_template=path(card.chat_template_file),
        generation_config=path(card.gen_config),
        directory=resolved.local_dir,
    )


def _log_progress(model: str, progress: FetchProgress) -> None:
    if progress.state is FetchState.FETCHING:
        return
    values = {
        "model": model,
        "file": progress.name,
        "bytes": progress.done_bytes,
        "digest": str(progress.digest),
        "seconds": round(progress.seconds, 3),
        "place": progress.place,
    }
    if progress.state is FetchState.FAILED:
        logger.warning("file not fetched", extra=facts(**values, reason=progress.reason))
    else:
        logger.info("file %s", progress.state.value, extra=facts(**values))
