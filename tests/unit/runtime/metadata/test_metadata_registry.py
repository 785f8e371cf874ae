from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from muster.digest import Digest
from muster.errors import ConflictError
from muster.names import EndpointId
from muster.runtime.metadata.registry import (
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


class Bytes(NamedTuple):
    """A body nobody reads."""

    digest: Digest
    size_bytes: int

    def open_fd(self) -> int:
        raise NotImplementedError


def file(name: str, content: bytes = b"x") -> Artifact:
    return Artifact(Path(name), Bytes(Digest.of(content), len(content)))


def test_register_get_roundtrip() -> None:
    registry = MetadataArtifactRegistry()
    artifact = file("/m/config.json", b"{}")
    assert registry.register(BASE, {key(): artifact}) == BASE
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
    registry.register(BASE, {key(slug="a"): file("/a", b"a")})
    registry.register(BASE, {key(slug="b"): file("/b", b"b")})
    assert registry.get(key(slug="a")) == file("/a", b"a")
    assert registry.get(key(slug="b")) == file("/b", b"b")


def test_unregister_only_removes_matching_suffix() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/base")})
    registry.register(LORA, {key(suffix="lora_v1"): file("/lora")})
    assert registry.unregister_for_owner(BASE) == 1
    assert registry.get(key()) is None
    assert registry.get(key(suffix="lora_v1")) == file("/lora")


def test_unregister_for_owner_clears_only_that_owner_and_is_idempotent() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/base")})
    registry.register(LORA, {key(suffix="lora_v1"): file("/lora")})
    registry.register(LORA, {key("t.json", suffix="lora_v1"): file("/lora-t")})
    assert registry.unregister_for_owner(LORA) == 2
    assert registry.unregister_for_owner(LORA) == 0
    assert registry.get(key()) == file("/base")
    assert len(registry) == 1


def test_register_returns_err_on_owner_collision_naming_both() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/one", b"one")})
    with pytest.raises(ConflictError) as caught:
        registry.register(LORA, {key(): file("/two", b"two")})
    assert str(BASE) in caught.value.message
    assert str(LORA) in caught.value.message
    assert registry.get(key()) == file("/one", b"one")
    assert registry.unregister_for_owner(LORA) == 0


def test_register_same_owner_updates_path() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/one", b"one")})
    registry.register(BASE, {key(): file("/two", b"two")})
    assert registry.get(key()) == file("/two", b"two")
    assert len(registry) == 1


def test_different_endpoints_coexist_and_detaching_one_keeps_the_other() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(7, OTHER)
    registry.register(BASE, {key(): file("/one")})
    registry.register(second, {key(endpoint="embed"): file("/two")})
    registry.unregister_for_owner(BASE)
    assert registry.get(key(endpoint="embed")) == file("/two")


def test_shared_content_lives_until_the_last_owner_leaves() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(8, GENERATE)
    registry.register(BASE, {key(): file("/one/config.json", b"same")})
    registry.register(second, {key(): file("/two/config.json", b"same")})
    assert registry.get(key()) == file("/one/config.json", b"same")
    registry.unregister_for_owner(BASE)
    assert registry.get(key()) == file("/two/config.json", b"same")
    registry.unregister_for_owner(second)
    assert registry.is_empty()


def test_an_owner_may_not_change_content_that_another_shares() -> None:
    registry = MetadataArtifactRegistry()
    second = MetadataOwner(8, GENERATE)
    registry.register(BASE, {key(): file("/one", b"same")})
    registry.register(second, {key(): file("/two", b"same")})
    with pytest.raises(ConflictError):
        registry.register(second, {key(): file("/two", b"changed")})
    registry.unregister_for_owner(BASE)
    assert registry.get(key()) == file("/two", b"same")


def test_owners_differ_by_connection_endpoint_and_lora() -> None:
    owners = {BASE, LORA, MetadataOwner(8, GENERATE), MetadataOwner(7, OTHER)}
    owners.add(MetadataOwner(7, GENERATE, serial=1))
    assert len(owners) == 5
    assert len({str(owner) for owner in owners}) == 5


def test_readers_never_miss_a_key_that_is_always_held() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/one", b"x")})
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
            registry.register(owner, {key(): file(f"/{number}", b"x")})
            registry.register(owner, {key(f"{owner.connection_id}-{number % 5}"): file("/x", b"x")})
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


def test_what_is_staged_is_not_served_before_it_is_published() -> None:
    registry = MetadataArtifactRegistry()
    assert registry.stage(BASE, {key(): file("/one")}) == BASE
    assert registry.get(key()) is None
    assert registry.is_empty()
    assert registry.is_staged(key())
    registry.publish(BASE)
    assert registry.get(key()) == file("/one")
    assert not registry.is_staged(key())
    registry.publish(BASE)
    assert len(registry) == 1


def test_what_is_staged_and_called_off_leaves_nothing() -> None:
    registry = MetadataArtifactRegistry()
    registry.stage(BASE, {key(): file("/one")})
    assert registry.unregister_for_owner(BASE) == 0
    registry.publish(BASE)
    assert registry.is_empty()
    assert not registry.is_staged(key())


def test_a_claim_keeps_other_content_out_before_it_is_published() -> None:
    registry = MetadataArtifactRegistry()
    registry.stage(BASE, {key(): file("/one", b"one")})
    with pytest.raises(ConflictError) as caught:
        registry.stage(LORA, {key(): file("/two", b"two"), key("more"): file("/more")})
    assert str(BASE) in caught.value.message
    assert not registry.is_staged(key("more"))
    registry.stage(LORA, {key(): file("/same", b"one")})


def test_a_registration_that_replaces_another_takes_its_place_in_one_step() -> None:
    registry = MetadataArtifactRegistry()
    again = MetadataOwner(7, GENERATE, serial=1)
    registry.register(BASE, {key(): file("/old", b"old"), key("gone"): file("/gone")})
    registry.stage(again, {key(): file("/new", b"new")}, replaces=BASE)
    assert registry.get(key()) == file("/old", b"old")
    registry.publish(again)
    assert registry.get(key()) == file("/new", b"new")
    assert registry.get(key("gone")) is None
    assert registry.unregister_for_owner(BASE) == 0
    assert registry.unregister_for_owner(again) == 1


def test_blobs_are_found_by_digest_under_whatever_name() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key("a"): file("/a", b"same"), key("b"): file("/b", b"same")})
    found = registry.find_blob(Digest.of(b"same"))
    assert found is not None
    assert found.digest == Digest.of(b"same")
    assert registry.find_blob(Digest.of(b"other")) is None
    registry.unregister_for_owner(BASE)
    assert registry.find_blob(Digest.of(b"same")) is None


def test_m5_a_thousand_lora_attach_and_detach_cycles_leave_nothing() -> None:
    registry = MetadataArtifactRegistry()
    registry.register(BASE, {key(): file("/base")})
    for number in range(1000):
        lora = MetadataOwner(7, GENERATE, f"lora{number % 7}", number)
        registry.stage(lora, {key(suffix=f"lora{number % 7}"): file("/lora")})
        if number % 3:
            registry.publish(lora)
        registry.unregister_for_owner(lora)
    assert [each.key for each in registry.entries()] == [key()]
    assert registry.find_blob(Digest.of(b"x")) == file("/base")


class RegistryMachine(RuleBasedStateMachine):
    """The registry beside a model of it: lists of who holds what, in order of coming."""

    owners = st.integers(0, 3).map(lambda number: MetadataOwner(number, GENERATE))
    names = st.sampled_from(["a", "b"])
    contents = st.sampled_from([b"x", b"y"])

    def __init__(self) -> None:
        super().__init__()
        self.registry = MetadataArtifactRegistry()
        self.held: dict[str, dict[MetadataOwner, bytes]] = {"a": {}, "b": {}}
        self.staged: dict[MetadataOwner, tuple[str, bytes, MetadataOwner | None]] = {}

    def conflicts(self, owner: MetadataOwner, name: str, content: bytes, *spared: object) -> bool:
        claims = [*self.held[name].items()]
        claims += [(who, text) for who, (each, text, _) in self.staged.items() if each == name]
        return any(who not in (owner, *spared) and text != content for who, text in claims)

    @rule(owner=owners, name=names, content=contents)
    def register(self, owner: MetadataOwner, name: str, content: bytes) -> None:
        entries = {key(name): file("/f", content)}
        if self.conflicts(owner, name, content):
            with pytest.raises(ConflictError):
                self.registry.register(owner, entries)
        else:
            self.registry.register(owner, entries)
            self.held[name][owner] = content

    @rule(owner=owners, name=names, content=contents, old=st.none() | owners)
    def stage(
        self, owner: MetadataOwner, name: str, content: bytes, old: MetadataOwner | None
    ) -> None:
        if old == owner:
            return
        entries = {key(name): file("/f", content)}
        if self.conflicts(owner, name, content, old):
            with pytest.raises(ConflictError):
                self.registry.stage(owner, entries, replaces=old)
        else:
            self.registry.stage(owner, entries, replaces=old)
            self.staged[owner] = (name, content, old)

    @rule(owner=owners)
    def publish(self, owner: MetadataOwner) -> None:
        self.registry.publish(owner)
        if owner in self.staged:
            name, content, old = self.staged.pop(owner)
            for holders in self.held.values():
                if old is not None:
                    holders.pop(old, None)
            self.held[name][owner] = content

    @rule(owner=owners)
    def leave(self, owner: MetadataOwner) -> None:
        count = sum(owner in holders for holders in self.held.values())
        assert self.registry.unregister_for_owner(owner) == count
        self.staged.pop(owner, None)
        for holders in self.held.values():
            holders.pop(owner, None)

    @invariant()
    def serves_what_the_eldest_holds(self) -> None:
        for name, holders in self.held.items():
            artifact = self.registry.get(key(name))
            eldest = next(iter(holders.values()), None)
            assert (artifact and artifact.digest) == (None if eldest is None else Digest.of(eldest))
        assert len(self.registry) == sum(bool(holders) for holders in self.held.values())
        for name in self.held:
            assert self.registry.is_staged(key(name)) == any(
                each == name for each, _, _ in self.staged.values()
            )


TestRegistryMachine = RegistryMachine.TestCase
