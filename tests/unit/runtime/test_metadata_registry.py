from __future__ import annotations

import threading
from pathlib import Path

import pytest

from muster.digest import Digest
from muster.errors import ConflictError
from muster.names import EndpointId
from muster.runtime.metadata_registry import (
    BASE_SUFFIX,
    Artifact,
    MetadataArtifactRegistry,
    MetadataKey,
    MetadataOwner,
)

GENERATE = EndpointId("ns", "backend", "generate")
OTHER = EndpointId("ns", "backend", "embed")
BASE = MetadataOwner(7, GENERATE)
LORA = MetadataOwner(7, GENERATE, "lora_v1")


def key(
    filename: str = "config.json",
    *,
    slug: str = "m",
    suffix: str = BASE_SUFFIX,
    endpoint: str = "generate",
) -> MetadataKey:
    return MetadataKey("ns", "backend", endpoint, slug, suffix, filename)


def file(name: str, content: bytes | None = None) -> Artifact:
    if content is None:
        return Artifact(Path(name))
    return Artifact(Path(name), Digest.of(content), len(content))


def test_register_get_roundtrip() -> None:
    registry = MetadataArtifactRegistry()
    artifact = file("/m/config.json", b"{}")
    registry.register(BASE, key(), artifact)
    assert registry.get(key()) == artifact
    assert registry.get(key("other.json")) is None
    assert registry.get(key(suffix="lora_v1")) is None
    assert len(registry) == 1
    assert not registry.is_empty()


def test_miss_returns_none() -> None:
    registry = MetadataArtifactRegistry()
    assert registry.get(key()) is None
    assert registry.is_empty()
    assert len(registry) == 0


def test_multi_model_no_collision() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(slug="a"), file("/a", b"a"))
    registry.register(BASE, key(slug="b"), file("/b", b"b"))
    assert registry.get(key(slug="a")) == file("/a", b"a")
    assert registry.get(key(slug="b")) == file("/b", b"b")


def test_unregister_only_removes_matching_suffix() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(), file("/base"))
    registry.register(LORA, key(suffix="lora_v1"), file("/lora"))
    assert registry.unregister_for_owner(BASE) == 1
    assert registry.get(key()) is None
    assert registry.get(key(suffix="lora_v1")) == file("/lora")


def test_unregister_for_owner_clears_only_that_owner_and_is_idempotent() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(), file("/base"))
    registry.register(LORA, key(suffix="lora_v1"), file("/lora"))
    registry.register(LORA, key("t.json", suffix="lora_v1"), file("/lora-t"))
    assert registry.unregister_for_owner(LORA) == 2
    assert registry.unregister_for_owner(LORA) == 0
    assert registry.get(key()) == file("/base")
    assert len(registry) == 1


def test_register_returns_err_on_owner_collision_naming_both() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(), file("/one", b"one"))
    with pytest.raises(ConflictError) as caught:
        registry.register(LORA, key(), file("/two", b"two"))
    assert str(BASE) in caught.value.message
    assert str(LORA) in caught.value.message
    assert registry.get(key()) == file("/one", b"one")
    assert registry.unregister_for_owner(LORA) == 0


def test_register_same_owner_updates_path() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(), file("/one", b"one"))
    registry.register(BASE, key(), file("/two", b"two"))
    assert registry.get(key()) == file("/two", b"two")
    assert len(registry) == 1


def test_different_endpoints_coexist_and_detaching_one_keeps_the_other() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(7, OTHER)
    registry.register(BASE, key(), file("/one"))
    registry.register(second, key(endpoint="embed"), file("/two"))
    registry.unregister_for_owner(BASE)
    assert registry.get(key(endpoint="embed")) == file("/two")


def test_shared_content_lives_until_the_last_owner_leaves() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(8, GENERATE)
    registry.register(BASE, key(), file("/one/config.json", b"same"))
    registry.register(second, key(), file("/two/config.json", b"same"))
    assert registry.get(key()) == file("/one/config.json", b"same")
    registry.unregister_for_owner(BASE)
    assert registry.get(key()) == file("/two/config.json", b"same")
    registry.unregister_for_owner(second)
    assert registry.is_empty()


def test_an_owner_may_not_change_content_that_another_shares() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(8, GENERATE)
    registry.register(BASE, key(), file("/one", b"same"))
    registry.register(second, key(), file("/two", b"same"))
    with pytest.raises(ConflictError):
        registry.register(second, key(), file("/two", b"changed"))
    registry.unregister_for_owner(BASE)
    assert registry.get(key()) == file("/two", b"same")


def test_without_digests_the_path_decides_whether_content_is_the_same() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(8, GENERATE)
    registry.register(BASE, key(), file("/one"))
    registry.register(second, key(), file("/one", b"x"))
    with pytest.raises(ConflictError):
        registry.register(MetadataOwner(9, GENERATE), key(), file("/two"))


def test_owners_differ_by_connection_endpoint_and_lora() -> None:
    owners = {BASE, LORA, MetadataOwner(8, GENERATE), MetadataOwner(7, OTHER)}
    assert len(owners) == 4
    assert len({str(owner) for owner in owners}) == 4


def test_readers_never_miss_a_key_that_is_always_held() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, key(), file("/one", b"x"))
    stop = threading.Event()
    missed: list[int] = []

    def read() -> None:
        while not stop.is_set():
            if registry.get(key()) is None:
                missed.append(1)

    reader = threading.Thread(target=read)
    reader.start()

    def churn(owner: MetadataOwner) -> None:
        for number in range(300):
            registry.register(owner, key(), file(f"/{number}", b"x"))
            registry.register(owner, key(f"{owner.connection_id}-{number % 5}"), file("/x", b"x"))
            registry.unregister_for_owner(owner)

    writers = [threading.Thread(target=churn, args=(MetadataOwner(n, OTHER),)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert not missed
    assert len(registry) == 1
