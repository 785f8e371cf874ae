"""Starts a frontend's processes, starts those again that end, and ends them all together.

The supervisor answers no client. It watches over its processes, puts their metrics together and
passes on what one tells the others. When it is gone, however it went, its processes see the end of
their socket and end as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import pickle
import signal
from collections.abc import Callable, Sequence

import msgspec

from muster.clock import SYSTEM_CLOCK
from muster.config.settings import Settings
from muster.errors import ConfigError, MusterError
from muster.frontend.processes.child import Child, describe_exit
from muster.frontend.processes.hub import Hub
from muster.frontend.processes.messages import Failed, Ready
from muster.frontend.processes.reservation import PortReservation
from muster.frontend.processes.restarts import RestartPause
from muster.frontend.processes.usage_table import UsageTable
from muster.log import facts

__all__ = ["Begin", "ProcessError", "supervise"]

logger = logging.getLogger(__name__)

_SILENT_S = 60.0
"""A process tells of itself every second. One that has been silent for so long serves nobody."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BEYOND_DRAIN_S = 10.0
_FORCED_S = 0.5

OnReady = Callable[[int, int], None]
"""Called with the port and the admin port (0 for none) once all processes listen."""


class ProcessError(MusterError):
    """A process of a frontend could not start."""

    code = "process"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The first thing a process is told; pickled.

    Attributes:
        settings: All settings, with the ports that were chosen.
        process: Its number, from 0.
        restarts: How often its number was started before.
        expected: Names that it should serve before it listens.
        started: When the frontend started, in seconds since the epoch.
        count: How many processes there are.
        usages: Descriptor of the ``UsageTable``; ``None`` where no keys have limits.
    """

    settings: Settings
    process: int
    restarts: int
    expected: tuple[str, ...]
    started: float
    count: int
    usages: int | None


async def supervise(
    settings: Settings, command: Sequence[str], on_ready: OnReady, *, silent_s: float = _SILENT_S
) -> None:
    """Run ``settings.processes.count`` processes until SIGTERM or SIGINT; a second signal forces.

    Each drains within the one deadline of the settings. One that ends before that is started again,
    after pauses that grow; one that has not said anything for some time is ended first, whether it
    hangs in its imports or serves. As long as not all have listened once, a process that ends by
    itself ends all: what keeps one from starting keeps the next one, too.

    Args:
        settings: All settings.
        command: Starts a process that takes its ``Begin`` from a socket, whose descriptor is
            added as the last argument.
        on_ready: Called once.
        silent_s: After how many seconds of silence a process is ended.

    Raises:
        ConfigError: A port cannot be had, or a setting is wrong.
        MusterError: Why a process could not start.
    """
    with contextlib.ExitStack() as stack:
        http, guard = settings.http, settings.guard
        held = PortReservation(http.host, http.port, flag="--http-port")
        stack.enter_context(held)
        http = dataclasses.replace(http, port=held.port)
        if guard.admin_port is not None:
            admin = PortReservation(guard.admin_host, guard.admin_port, flag="--admin-port")
            stack.enter_context(admin)
            guard = dataclasses.replace(guard, admin_port=admin.port)
        settings = dataclasses.replace(settings, http=http, guard=guard)
        await _Supervisor(settings, command, on_ready, silent_s).run()


class _Supervisor:
    def __init__(
        self, settings: Settings, command: Sequence[str], on_ready: OnReady, silent_s: float
    ) -> None:
        self._silent_s = silent_s
        self._settings = settings
        self._command = command
        self._on_ready = on_ready
        self._count = settings.processes.count
        self._hub = Hub(self._count)
        keys = settings.guard.keys_file is not None
        self._usages = UsageTable.create(self._count) if keys else None
        self._started = SYSTEM_CLOCK.wall()
        self._children: dict[int, Child] = {}
        self._ready: set[int] = set()
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._failure: MusterError | None = None
        self._forced: signal.Signals | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._signalled, each)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._keep(number))
        finally:
            for each in _SIGNALS:
                loop.remove_signal_handler(each)
            await self._hub.close()
        if self._forced is not None:
            _take_usual_course(self._forced)
        if self._failure is not None:
            raise self._failure

    # -- one process -------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have this process run until all are to end."""
        pause = RestartPause()
        restarts = 0
        while not self._stopping.is_set():
            begun = SYSTEM_CLOCK.monotonic()
            try:
                failed, code = await self._live(number, restarts)
                how = describe_exit(code)
            except OSError as error:  # no memory, no descriptors: it may get better
                how = f"a process cannot be started: {error}"
                failed, code = Failed(how, 1), 1
            if self._stopping.is_set():
                return
            if code > 0 and not self._was_ready:
                self._fail(failed or Failed(f"a process could not start: {how}; see the log", 1))
                return
            wait_s = pause.after(SYSTEM_CLOCK.monotonic() - begun)
            why = {} if failed is None else {"reason": failed.text}
            logger.error(
                "a process has ended and is started again",
                extra=facts(ended=number, how=how, again_in_s=wait_s, **why),
            )
            self._hub.note("error", f"process {number} has ended and is started again", how)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            restarts += 1

    async def _live(self, number: int, restarts: int) -> tuple[Failed | None, int]:
        """One life of a process: why it failed, if it said so, and its exit code.

        Raises:
            OSError: It cannot be started.
        """
        shared = () if self._usages is None else (self._usages.descriptor,)
        child = await Child.start(number, self._command, shared)
        self._children[number] = child
        try:
            begin = Begin(
                settings=self._settings,
                process=number,
                restarts=restarts,
                expected=tuple(self._hub.served()),
                started=self._started,
                count=self._count,
                usages=None if self._usages is None else self._usages.descriptor,
            )
            child.channel.send_payload(pickle.dumps(begin))
            self._hub.joined(number, child.channel, pid=child.pid, restarts=restarts)
            if self._stopping.is_set():
                child.send(signal.SIGTERM)
            failed = await self._attend(child)
            return failed, await child.exit_code()
        finally:
            del self._children[number]
            self._ready.discard(number)
            self._hub.left(number)
            if self._usages is not None:
                self._usages.forget_process(number)
            await child.close()

    async def _attend(self, child: Child) -> Failed | None:
        """Listen to a process until it closes its socket, or is killed: why it failed, if it said so."""
        failed = None
        while True:
            try:
                async with asyncio.timeout(self._silent_s):
                    message = await child.channel.from_process()
            except TimeoutError:
                child.kill(f"it has been silent for {self._silent_s:g} s")
                return failed
            except msgspec.DecodeError as error:  # Muster was upgraded under a running supervisor
                child.kill(f"it does not speak as its supervisor does: {error}")
                return failed
            match message:
                case None:
                    return failed
                case Failed():
                    failed = message
                case Ready():
                    self._is_ready(child.number, message)
                case _:
                    self._hub.heard(child.number, message)

    def _is_ready(self, number: int, ready: Ready) -> None:
        logger.info("a process listens", extra=facts(listens=number))
        self._ready.add(number)
        if self._was_ready:
            self._hub.note("info", f"process {number} serves again", "")
        if not self._was_ready and len(self._ready) == self._count:
            self._was_ready = True
            self._on_ready(ready.port, ready.admin_port)

    # -- the end -----------------------------------------------------------------------------

    def _fail(self, failed: Failed) -> None:
        kind = ConfigError if failed.code == 2 else ProcessError
        self._failure = self._failure or kind(failed.text)
        self._stop()

    def _signalled(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            self._stop()
            return
        logger.warning("forced to end", extra=facts(signal=number.name))
        self._forced = number
        self._send_all(signal.SIGTERM)
        asyncio.get_running_loop().call_later(_FORCED_S, self._send_all, signal.SIGKILL)

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        for number, child in self._children.items():
            if number in self._ready:
                self._hub.drain(number)
            else:
                child.send(signal.SIGTERM)
        limit_s = self._settings.http.drain_timeout_s + _BEYOND_DRAIN_S
        asyncio.get_running_loop().call_later(limit_s, self._send_all, signal.SIGKILL)

    def _send_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            child.send(number)


def _take_usual_course(number: signal.Signals) -> None:
    """End as a process without a handler does."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
