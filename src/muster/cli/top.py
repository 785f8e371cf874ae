"""``muster top``: what a frontend's dashboard shows, in a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.cli.frontend_key import frontend_key, key_option
from muster.cli.model_options import check_url
from muster.cli.options import load_settings, run_loop

if TYPE_CHECKING:
    from muster.frontend.dashboard.view import Snapshot

__all__ = ["command"]


@click.command()
@click.option(
    "--frontend", "url", help="Frontend to watch.  [default: http://127.0.0.1:$DYN_HTTP_PORT]"
)
@click.option("--once", is_flag=True, help="Say how it is now, and end.")
@click.option(
    "--json", "as_json", is_flag=True,
    help="With --once one JSON object; else one a line: a snapshot, then what changes.",
)  # fmt: skip
@key_option
def command(*, url: str | None, once: bool, as_json: bool, key_file: Path | None) -> int:
    """Watch a frontend: models, replicas, requests, latencies, fetches, events.

    Ctrl-C ends it. On something that is no terminal it writes plain text every 10 s. The exit code is
    1 if the frontend cannot be reached at first; later it is tried again.

    \b
    muster top
    muster top --frontend http://10.0.0.5:8000
    muster top --once --json | jq '.models[].state'
    """  # noqa: D301 - click reads the escape as "leave these lines as they are"
    settings = load_settings(log__filter="error")
    address = check_url(url, settings.http.port)
    key = frontend_key(key_file, settings)
    if once:
        state = run_loop(_once(address, key))
        if as_json:
            import msgspec

            click.echo(json.dumps(msgspec.to_builtins(state)))
        else:
            _say(state)
        return 0
    return run_loop(_watch(address, key, as_json=as_json))


async def _once(url: str, key: str) -> Snapshot:
    """The state after one change, which is at most some seconds away: by then the cache is known, too.

    Raises:
        TransportError: The frontend cannot be reached, or ends the stream at once.
    """
    from muster.cli.top_state import apply_event
    from muster.cli.top_stream import open_stream
    from muster.errors import TransportError

    state: Snapshot | None = None
    async with open_stream(url, key) as events:
        async for _, name, data in events:
            state = apply_event(state, name, data)
            if name == "change":
                break
    if state is None:
        raise TransportError(f"the frontend at {url} says nothing", hint="is it shutting down?")
    return state


async def _watch(url: str, key: str, *, as_json: bool) -> int:
    """Show what comes until a signal; returns the exit code."""
    import asyncio
    import signal

    from muster.cli.top_show import shower
    from muster.tasks import TaskOwner

    owner = TaskOwner("top")
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    with shower(url, as_json=as_json) as show:
        watching = owner.launch(show.follow(key), name="follow")
        try:
            either: set[asyncio.Future[Any]] = {watching, ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()  # raises: it has no other end
            return ended.result()
        finally:
            await owner.close()
            for number in numbers:
                loop.remove_signal_handler(number)


def _say(state: Snapshot) -> None:
    from muster.cli.top_show import say

    say(state)
    sys.stdout.flush()
