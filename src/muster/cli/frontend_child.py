"""One of the processes of ``muster frontend --processes``; started by their supervisor only."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import sys

from muster.cli.options import configure_log, run_loop
from muster.errors import ConfigError, MusterError
from muster.frontend.processes.messages import Channel, Failed, read_frame
from muster.frontend.processes.siblings import Siblings
from muster.frontend.processes.supervisor import Begin
from muster.frontend.processes.usage_table import UsageTable
from muster.frontend.serve import serve_frontend

__all__ = ["main"]

_FLUSH_S = 1.0


class _Numbered(logging.Filter):
    """Adds the process's number to every line."""

    def __init__(self, process: int) -> None:
        super().__init__()
        self._fact = {"process": process}

    def filter(self, record: logging.LogRecord) -> bool:
        """Change ``record``; always ``True``."""
        given = getattr(record, "facts", None)
        record.facts = self._fact | given if isinstance(given, dict) else self._fact
        return True


def main(descriptor: int) -> int:
    """Serve as the supervisor at the other end of the socket ``descriptor`` says; the exit code."""
    connection = socket.socket(fileno=descriptor)
    try:
        begin: Begin = pickle.loads(read_frame(connection))  # noqa: S301 - from our own parent
    except EOFError:
        return 1
    configure_log(begin.settings)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Numbered(begin.process))
    return run_loop(_serve(begin, connection))


async def _serve(begin: Begin, connection: socket.socket) -> int:
    channel = await Channel.over(connection)
    usages = None
    if begin.usages is not None:
        usages = UsageTable(begin.usages, count=begin.count, process=begin.process)
    siblings = Siblings(
        channel,
        process=begin.process,
        count=begin.count,
        restarts=begin.restarts,
        expected=begin.expected,
        started=begin.started,
        usages=usages,
    )
    try:
        await serve_frontend(
            begin.settings,
            os.environ,
            lambda frontend: siblings.ready(frontend.port, frontend.admin_port),
            siblings=siblings,
        )
    except* MusterError as group:
        error = _first(group)
        code = 2 if isinstance(error, ConfigError) else 1
        channel.send(Failed(error.diagnostics(), code))
    else:
        code = 0
    await channel.flush(_FLUSH_S)
    channel.close()
    await asyncio.sleep(0)
    return code


def _first(group: BaseExceptionGroup[MusterError]) -> MusterError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, MusterError)  # noqa: S101 - the group has nothing else
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
