"""Checks a candidate against the trust settings before anything is asked of it.

The shell around ``trust``: it looks names up and reads this machine's interfaces, with deadlines. A
host that is allowed for its address is connected to at exactly that address: what its name means a
moment later does not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
from yarl import URL

from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import FetchSettings
from muster.errors import SourceError, UntrustedSourceError
from muster.model.fetch.candidates import Candidate
from muster.model.fetch.place import HttpPlace, HubCachePlace, LocalPlace, Place
from muster.model.fetch.trust import Address, HostPolicy, is_under, parse_address
from muster.wire.address import list_interfaces

__all__ = ["TrustGate"]

_OWN_ADDRESSES_S = 30.0
"""How long this machine's addresses are taken to stay as they are."""


class TrustGate:
    """Lets candidates pass, or says why not.

    Args:
        settings: Whom to trust.
        roots: Directories of this process's own: believed like those of the settings.
        clock: Times what is remembered.
    """

    def __init__(
        self, settings: FetchSettings, roots: Sequence[Path], *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._policy = HostPolicy.parse(settings.allow)
        self._roots = (*settings.roots, *roots)
        self._look_up_s = settings.connect_timeout_s
        self._read_s = settings.idle_timeout_s
        self._clock = clock
        self._own: frozenset[Address] = frozenset()
        self._own_until = 0.0
        self._looking = asyncio.Lock()

    async def warm_up(self) -> None:
        """Look at this machine's addresses now, so that the first file need not wait for it."""
        await self._own_addresses()

    async def admit(self, candidate: Candidate) -> HttpPlace | LocalPlace:
        """The place to ask.

        Raises:
            UntrustedSourceError: It may not be asked.
            SourceError: It is not there, or its host cannot be looked up.
        """
        match candidate.place:
            case HubCachePlace() as cached:
                place = await asyncio.to_thread(cached.resolve)
                if place is None:
                    raise SourceError(f"the hub cache {cached.root} has no {cached.name}")
                return place
            case LocalPlace() as local:
                return local if candidate.trusted else await self._admit_path(local)
            case HttpPlace() as remote:
                return remote if candidate.trusted else await self._admit_host(remote, candidate)

    async def is_near(self, place: Place) -> bool:
        """Whether the place is on this machine, as far as its address tells without a look-up."""
        if not isinstance(place, HttpPlace):
            return True
        address = parse_address(_host_of(place) or "")
        return address is not None and (
            address.is_loopback or address in await self._own_addresses()
        )

    async def _admit_path(self, place: LocalPlace) -> LocalPlace:
        try:
            async with asyncio.timeout(self._read_s):
                found = await asyncio.to_thread(_resolve_under, place.path, self._roots)
        except TimeoutError as error:
            raise SourceError(f"looking at {place} took longer than {self._read_s:g} s") from error
        if found is None:
            raise UntrustedSourceError(
                f"the card names {place} on this host, which is under no directory that is believed",
                hint="allow its directory with MUSTER_FETCH_ROOTS, give it with --model-path, or let "
                "the worker serve its files",
            )
        return LocalPlace(found)

    async def _admit_host(self, place: HttpPlace, candidate: Candidate) -> HttpPlace:
        host = _host_of(place)
        if host is None or self._policy.allows_name(host, candidate.host):
            return place  # a URL without a host is the source's to refuse
        instance = await self._addresses(candidate.host)
        own = await self._own_addresses()
        for address in await self._addresses(host):
            if self._policy.allows_address(address, instance, own):
                return msgspec.structs.replace(place, connect_to=str(address))
        whose = f"{candidate.host}" if candidate.host else "unknown"
        raise UntrustedSourceError(
            f"{place} is not at the address of the instance that published it ({whose})",
            hint=f"if files may be fetched from there, set MUSTER_FETCH_ALLOW={host}",
        )

    async def _addresses(self, host: str | None) -> list[Address]:
        """What ``host`` means here; empty if it is not known, or nobody knows the name."""
        if host is None:
            return []
        literal = parse_address(host)
        if literal is not None:
            return [literal]
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, UnicodeError, TimeoutError):
            async with asyncio.timeout(self._look_up_s):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = [parse_address(str(each[4][0])) for each in found]
            return [address for address in addresses if address is not None]
        return []

    async def _own_addresses(self) -> frozenset[Address]:
        if self._clock.monotonic() < self._own_until:
            return self._own
        async with self._looking:  # the files of a card all ask at once
            if self._clock.monotonic() >= self._own_until:
                interfaces = await asyncio.to_thread(list_interfaces)
                addresses = (parse_address(text) for each in interfaces for text in each.addresses)
                self._own = frozenset(address for address in addresses if address is not None)
                self._own_until = self._clock.monotonic() + _OWN_ADDRESSES_S
        return self._own


def _host_of(place: HttpPlace) -> str | None:
    try:
        return URL(place.url, encoded=True).host
    except ValueError:
        return None


def _resolve_under(path: Path, roots: Sequence[Path]) -> Path | None:
    """``path`` without links if it is under one of ``roots``, else ``None``. Blocks."""
    try:
        resolved = path.resolve()
        return resolved if is_under(resolved, [root.resolve() for root in roots]) else None
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        return None
