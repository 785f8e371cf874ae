from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.candidates import (
    Candidate,
    Surroundings,
    find_candidates,
    in_order,
    offers_of,
)
from muster.model.fetch.place import HttpKind, HttpPlace, HubCachePlace, LocalPlace, Place
from muster.model.fetch.replica import Replica
from muster.model.slot import Slot, SlotKind

DIGEST = Digest.of(b"config")
NOTHING = Surroundings()


def at(location: str, digest: Digest = DIGEST) -> CheckedFile:
    return CheckedFile.at(location, digest)


def replica(
    *locations: str, host: str | None = "10.0.0.1", blobs: str | None = None, healthy: bool = True
) -> Replica:
    card = ModelDeploymentCard(
        display_name="M",
        slug="m",
        model_info=Slot(SlotKind.HF_CONFIG_JSON, at(locations[0])) if locations else None,
        extra_files=tuple(at(location) for location in locations[1:]),
        muster={"blobs": blobs} if blobs else {},
    )
    return Replica(card=card, host=host, healthy=healthy)


def found(location: str, around: Surroundings = NOTHING) -> list[Place]:
    places = find_candidates(at(location), offers_of([replica(location)]), around).places
    return [each.place for each in places]


def test_a_url_or_path_of_this_host_is_the_only_place_without_surroundings() -> None:
    assert found("http://h/a") == [HttpPlace("http://h/a")]
    assert found("https://h/a") == [HttpPlace("https://h/a")]
    assert found("/m/a") == [LocalPlace(Path("/m/a"))]
    assert found("file:///m/a%20b") == [LocalPlace(Path("/m/a b"))]


def test_the_model_path_comes_after_the_cards_own_place_and_is_believed() -> None:
    around = Surroundings(model_path=Path("/o"))
    overlay = LocalPlace(Path("/o/a b"))
    assert found("http://h/a%20b", around) == [HttpPlace("http://h/a%20b"), overlay]
    for location in ("hf://Org/M/a%20b", "mx://h/a%20b", "relative/a b", "file://host/a%20b"):
        assert found(location, around) == [overlay]
    (*_, last) = find_candidates(at("/m/x"), offers_of([replica("/m/x")]), around).places
    assert last.trusted


def test_every_replica_with_the_digest_is_asked_then_their_blobs() -> None:
    replicas = [
        replica("http://a/config.json"),
        replica("http://b/other.txt", blobs="http://b/v1/blobs/"),
        replica("/nowhere/config.json", "http://c/x/config.json"),
        replica("http://a/config.json"),
    ]
    places = find_candidates(at("http://a/config.json"), offers_of(replicas), NOTHING).places
    assert [str(each.place) for each in places] == [
        "http://a/config.json",
        "http://b/other.txt",
        "http://c/x/config.json",
        f"http://b/v1/blobs/{DIGEST.hex}",
        "/nowhere/config.json",
    ]


def test_files_with_other_bytes_are_no_sources() -> None:
    other = Replica(
        card=ModelDeploymentCard(
            display_name="M", slug="m", extra_files=(at("http://b/config.json", Digest.of(b"x")),)
        )
    )
    places = find_candidates(
        at("http://a/config.json"), offers_of([replica("http://a/config.json"), other]), NOTHING
    )
    assert [str(each.place) for each in places.places] == ["http://a/config.json"]


def test_a_hubs_file_is_looked_for_in_its_cache_and_asked_for_only_if_somebody_opted_in() -> None:
    cached = Surroundings(hub_roots=(Path("/hub"),))
    assert found("hf://Org/M/c.json", cached) == [HubCachePlace(Path("/hub"), "Org/M", "c.json")]
    opted_in = Surroundings(hub_url="https://hub.example/")
    assert found("hf://Org/M/c%20d.json", opted_in) == [
        HttpPlace("https://hub.example/Org/M/resolve/main/c%20d.json", HttpKind.HUB)
    ]


@pytest.mark.parametrize(
    ("location", "words", "hint"),
    [
        ("hf://Org/M/a", "hf://Org/M/a is on a hub, and none is asked", "DYN_SELF_HOST_METADATA"),
        ("hf://a/b/c/d.json", "names no file of a hub's repository", ""),
        ("mx://user:secret@h/a?secret", "unsupported scheme 'mx': mx://h/a", "--model-path"),
        ("c:\\m\\a", "unsupported scheme 'c'", "--model-path"),
        ("relative/a", "not an absolute path", "absolute"),
        ("file://elsewhere/a", "elsewhere", "this host"),
    ],
)
def test_a_place_no_source_can_read_is_refused_with_a_way_out(
    location: str, words: str, hint: str
) -> None:
    candidates = find_candidates(at(location), offers_of([replica(location)]), NOTHING)
    assert candidates.places == ()
    (refused,) = candidates.refused
    assert words in refused.message
    assert hint in refused.hint
    assert "secret" not in refused.diagnostics()


_candidates = st.lists(
    st.builds(
        lambda number, tier, healthy: Candidate(
            place=HttpPlace(f"http://h{number}/a"), tier=tier, healthy=healthy
        ),
        st.integers(0, 5),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=8,
)


@given(_candidates, st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)), st.integers())
def test_the_order_loses_nobody_and_asks_the_rested_near_and_healthy_first(
    candidates: list[Candidate], resting: set[int], near: set[int], seed: int
) -> None:
    def number(source: str) -> int:
        return int(source.removeprefix("http://h"))

    ordered = in_order(
        candidates,
        is_resting=lambda source: number(source) in resting,
        is_near=lambda each: number(each.place.source) in near,
        chance=random.Random(seed),
    )
    assert sorted(map(str, ordered)) == sorted(map(str, candidates))
    ranks = [
        (
            number(each.place.source) in resting,
            each.tier,
            not each.healthy,
            number(each.place.source) not in near,
        )
        for each in ordered
    ]
    assert ranks == sorted(ranks)


def test_equal_sources_are_shuffled() -> None:
    same = [Candidate(place=HttpPlace(f"http://h{number}/a"), tier=0) for number in range(6)]
    firsts = {
        in_order(
            same,
            is_resting=lambda _: False,
            is_near=lambda _: True,
            chance=random.Random(seed),
        )[0].place.source
        for seed in range(60)
    }
    assert len(firsts) == 6
