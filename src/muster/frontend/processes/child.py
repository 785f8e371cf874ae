"""One process of a frontend, as its supervisor has it: started with a socket, signalled, reaped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence

from muster.frontend.processes.messages import Channel
from muster.log import facts

__all__ = ["Child", "describe_exit"]

logger = logging.getLogger(__name__)

_END_S = 10.0
_REAP_S = 5.0


class Child:
    """A process and the channel to it. Use ``start``, and ``close`` it in the end.

    Args:
        number: Its number, from 0.
        process: The process.
        channel: To it.

    Attributes:
        number: Its number.
        channel: To it.
    """

    def __init__(self, number: int, process: Process, channel: Channel) -> None:
        self.number = number
        self.channel = channel
        self._process = process

    @classmethod
    async def start(cls, number: int, command: Sequence[str], shared: Sequence[int]) -> Child:
        """Start ``command`` with its end of a socket, whose descriptor is the last argument.

        Args:
            number: Its number, from 0.
            command: Program and arguments.
            shared: Further descriptors that it gets.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as stack:
            stack.enter_context(ours)
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(), *shared),
                stdin=DEVNULL,
                # A terminal's Ctrl-C is for the supervisor, which says it to all.
                start_new_session=True,
            )
            stack.pop_all()
        try:
            return cls(number, process, await Channel.over(ours))
        except BaseException:
            process.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self, why: str) -> None:
        """SIGKILL, with a line in the log."""
        logger.error(
            "a process is killed", extra=facts(killed=self.number, pid=self.pid, reason=why)
        )
        self.send(signal.SIGKILL)

    async def exit_code(self) -> int:
        """Its exit code (negative: the signal that ended it), once it has ended.

        It is asked for when the process has closed its socket, or has been killed: it has nothing
        more to do, and is killed if that takes it longer than ten seconds.
        """
        try:
            async with asyncio.timeout(_END_S):
                return await self._process.wait()
        except TimeoutError:
            self.kill("it hangs at its end")
            return await self._process.wait()

    async def close(self) -> None:
        """Close the channel and leave no process behind; one that still runs is killed. Idempotent."""
        self.channel.close()
        if self._process.returncode is None:
            self.send(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await self._process.wait()


def describe_exit(code: int) -> str:
    """An exit code in words: the signal's name, if one ended the process."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
