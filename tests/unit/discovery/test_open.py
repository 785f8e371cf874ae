from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from muster.config.settings import DiscoverySettings
from muster.discovery.file import FileDiscovery
from muster.discovery.memory import MemoryRegistry
from muster.discovery.open import open_discovery
from muster.errors import ConfigError


def test_the_settings_choose_the_backend(tmp_path: Path) -> None:
    assert isinstance(open_discovery(DiscoverySettings(file_root=tmp_path)), FileDiscovery)


def test_memory_backends_share_the_registry_given_and_only_that() -> None:
    async def body() -> None:
        settings = DiscoverySettings(backend="memory")
        registry = MemoryRegistry()
        one, two = (open_discovery(settings, registry=registry) for _ in range(2))
        alone = open_discovery(settings)
        await one.register("v1/instances", "k", b"1")
        assert await two.list("v1/instances") == {"k": b"1"}
        assert await alone.list("v1/instances") == {}

    asyncio.run(body())


def test_an_unknown_backend_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="bogus"):
        open_discovery(DiscoverySettings(backend="bogus"))
