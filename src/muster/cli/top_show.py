"""What ``muster top`` writes: a screen, plain text, or lines of JSON; and staying connected."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import click

from muster.cli.quantity import show_size
from muster.cli.table import printable, show_table
from muster.cli.top_state import apply_event
from muster.cli.top_stream import open_stream
from muster.cli.top_text import HEAD, event_line, fetches, model_rows, notes, summary
from muster.errors import TransportError
from muster.frontend.dashboard.view import Snapshot

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Follower", "Output", "say", "shower"]

_PAUSE_S = 1.0
_PLAIN_PERIOD_S = 10.0
_EVENTS = 5


class Output(Protocol):
    """Where it is shown."""

    def event(self, name: str, data: bytes, state: Snapshot) -> None:
        """Show an event, and the state after it."""
        ...

    def trouble(self, message: str, state: Snapshot) -> None:
        """Say that the connection is lost; ``state`` was the last."""
        ...


def say(state: Snapshot) -> None:
    """Write the whole state as plain text."""
    for line in summary(state):
        click.echo(printable(line))
    click.echo()
    rows = model_rows(state)
    if rows:
        show_table(HEAD, rows)
    else:
        click.echo("no model is registered")
    lines = [*notes(state)]
    lines += [
        f"{model} {file.name}: {show_size(file.done_bytes)} of "
        f"{show_size(file.size_bytes) if file.size_bytes else '?'}, {file.state}"
        for model, file in fetches(state)
    ]
    if lines:
        click.echo()
    for line in lines:
        click.echo(printable(line))
    if state.events:
        click.echo()
    for event in state.events[-_EVENTS:]:
        click.echo(printable(event_line(event)))


class _Lines:
    """Each event as an object in a line."""

    def event(self, name: str, data: bytes, state: Snapshot) -> None:
        del state
        click.echo(f'{{"event":"{name}","data":{data.decode()}}}')
        sys.stdout.flush()

    def trouble(self, message: str, state: Snapshot) -> None:
        del state
        click.echo(f"muster: {printable(message)}", err=True)


class _Plain:
    """The state as text, now and then."""

    def __init__(self) -> None:
        self._due = 0.0

    def event(self, name: str, data: bytes, state: Snapshot) -> None:
        del name, data
        now = time.monotonic()
        if now >= self._due:
            if self._due:
                click.echo("\n" + "-" * 40)
            self._due = now + _PLAIN_PERIOD_S
            say(state)
            sys.stdout.flush()

    def trouble(self, message: str, state: Snapshot) -> None:
        del state
        click.echo(f"muster: {printable(message)}", err=True)


class _Terminal:
    """One screen, drawn again for each event."""

    def __init__(self, url: str, live: Live) -> None:
        self._url = url
        self._live = live

    def event(self, name: str, data: bytes, state: Snapshot) -> None:
        del name, data
        self._draw(state, "")

    def trouble(self, message: str, state: Snapshot) -> None:
        self._draw(state, f"{message}; trying again")

    def _draw(self, state: Snapshot, trouble: str) -> None:
        from muster.cli.top_screen import Screen

        self._live.update(Screen(state, self._url, trouble), refresh=True)


class Follower:
    """Follows a frontend's stream, through losses of the connection.

    Args:
        url: The frontend's address.
        output: Where it is shown.
    """

    def __init__(self, url: str, output: Output) -> None:
        self._url = url
        self._output = output
        self._state: Snapshot | None = None
        self._last_id = ""

    async def follow(self, key: str) -> None:
        """Show what comes, for ever.

        Raises:
            TransportError: The frontend could not be reached at first.
            ProtocolError: It says what cannot be understood.
        """
        while True:
            try:
                async with open_stream(self._url, key, self._last_id) as events:
                    async for event_id, name, data in events:
                        self._state = apply_event(self._state, name, data)
                        self._last_id = event_id or self._last_id
                        if self._state is not None:
                            self._output.event(name, data, self._state)
                message = f"the frontend at {self._url} ended the stream"
            except TransportError as error:
                if self._state is None:
                    raise
                message = error.message
            if self._state is not None:
                self._output.trouble(message, self._state)
            await asyncio.sleep(_PAUSE_S)


@contextlib.contextmanager
def shower(url: str, *, as_json: bool) -> Iterator[Follower]:
    """A follower that writes to standard output, which is a screen of its own if it is a terminal."""
    if as_json or not sys.stdout.isatty():
        yield Follower(url, _Lines() if as_json else _Plain())
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(
        Text("connecting"), console=console, screen=True, auto_refresh=False, transient=True
    ) as live:
        yield Follower(url, _Terminal(url, live))
