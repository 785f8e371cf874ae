"""Keys under a component's path that others write and the component reacts to.

A key is a record in the bucket ``v1/watched`` under ``namespace/component/name``: one value, the
last writer's, gone with that writer's lease. Dynamo has no such bucket and does not look into it.
The record's JSON::

    {"type": "Watched", "namespace": ..., "component": ..., "name": ..., "writer": <instance id>,
     "value": <the JSON value>}
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import msgspec

from muster.discovery.base import Watch
from muster.errors import DiscoveryError
from muster.log import facts
from muster.runtime.components.component_path import check_key_name, component_key
from muster.runtime.components.json_value import json_text
from muster.tasks import TaskOwner

if TYPE_CHECKING:
    from muster.runtime.distributed import DistributedRuntime

__all__ = ["WATCHED", "KeyCallback", "KeyReaction", "KeyState", "KeyWatch", "WatchedKeys"]

logger = logging.getLogger(__name__)

WATCHED = "v1/watched"
"""Bucket of watched keys."""


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a key.

    Attributes:
        name: The key's name.
        is_set: Whether it holds a value; if not, it was deleted or its writer ended.
        value: The JSON value; ``None`` also when there is none.
        writer: Instance id of who wrote it; ``None`` when there is no value.
    """

    name: str
    is_set: bool
    value: Any = None
    writer: int | None = None


KeyCallback = Callable[[KeyState], Awaitable[None] | None]
"""Gets each state of a key; a function or a coroutine function."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    namespace: str
    component: str
    name: str
    writer: int
    value: msgspec.Raw


class KeyWatch:
    """States of one key, or of all of a component: what is there, then every change.

    Iterate it once. A record that cannot be read counts as none.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._names: dict[str, str] = {}

    async def __aiter__(self) -> AsyncIterator[KeyState]:
        """The states, until the registry is closed."""
        for key, value in sorted(self._watch.snapshot.items()):
            state = self._state(key, value)
            if state is not None:
                yield state
        async for change in self._watch:
            state = self._state(change.key, change.value)
            if state is not None:
                yield state

    def _state(self, key: str, value: bytes | None) -> KeyState | None:
        """The key's new state; ``None`` if it had no value, and has none now."""
        record = _read(key, value) if value is not None else None
        if record is None:
            name = self._names.pop(key, None)
            return KeyState(name=name, is_set=False) if name is not None else None
        self._names[key] = record.name
        return KeyState(
            name=record.name,
            is_set=True,
            value=json.loads(bytes(record.value)),
            writer=record.writer,
        )


class KeyReaction:
    """A callback that is called with states of keys; made by ``Component.on_key``.

    Close it to end it, or use it as ``async with``. A callback under way is cancelled then, but for
    one that closes its own reaction, which is the last.
    """

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Call the callback no more; idempotent."""
        self._task.cancel()
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


class WatchedKeys:
    """The watched keys of one component; see ``Component`` for what its methods raise."""

    def __init__(self, runtime: DistributedRuntime, namespace: str, component: str) -> None:
        self._runtime = runtime
        self._namespace = namespace
        self._component = component
        self._tasks: TaskOwner | None = None

    async def write(self, name: str, value: Any) -> None:
        """Write a key."""
        key = self._key(name)
        record = _Record(
            type="Watched",
            namespace=self._namespace,
            component=self._component,
            name=name,
            writer=self._runtime.instance_id,
            value=msgspec.Raw(json_text(value, what=f"the value of the key {name!r}")),
        )
        await self._runtime.discovery.register(WATCHED, key, msgspec.json.encode(record))

    async def delete(self, name: str) -> None:
        """Delete a key this process wrote."""
        await self._runtime.discovery.deregister(WATCHED, self._key(name))

    @contextlib.asynccontextmanager
    async def watch(self, name: str | None) -> AsyncIterator[KeyWatch]:
        """Watch a key, or all."""
        prefix = (
            component_key(self._namespace, self._component) if name is None else self._key(name)
        )
        async with self._runtime.discovery.watch(WATCHED, prefix) as watch:
            yield KeyWatch(watch)

    async def react(self, name: str | None, callback: KeyCallback) -> KeyReaction:
        """Call ``callback`` with each state."""
        if self._tasks is None:
            self._tasks = TaskOwner(f"keys of {self._namespace}.{self._component}")
            self._runtime.on_withdraw(self._tasks.close)
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            task = self._tasks.launch(_react(self.watch(name), callback, opened), name="reaction")
        except RuntimeError as error:
            raise DiscoveryError("this runtime is shutting down, or has") from error
        task.add_done_callback(lambda task: _settle(task, opened))
        try:
            await opened
        except asyncio.CancelledError:
            task.cancel()
            raise
        return KeyReaction(task)

    def _key(self, name: str) -> str:
        check_key_name(name, what="key")
        return component_key(self._namespace, self._component, name)


async def _react(
    watching: contextlib.AbstractAsyncContextManager[KeyWatch],
    callback: KeyCallback,
    opened: asyncio.Future[None],
) -> None:
    async with watching as states:
        if not opened.done():
            opened.set_result(None)
        async for state in states:
            try:
                result = callback(state)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("a callback for a watched key failed", extra=facts(key=state.name))


def _settle(task: asyncio.Task[None], opened: asyncio.Future[None]) -> None:
    """Tell whoever waits for the watch to open, or else the log, why it ended."""
    error = None if task.cancelled() else task.exception()
    if not opened.done():
        opened.set_exception(error or DiscoveryError("the watch ended before it began"))
    elif error is not None:
        logger.error("the watch of a key ended: %s", error, exc_info=error)


def _read(key: str, value: bytes) -> _Record | None:
    try:
        record = msgspec.json.decode(value, type=_Record)
        json.loads(bytes(record.value))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    matches = key == component_key(record.namespace, record.component, record.name)
    return record if record.type == "Watched" and matches else None
