"""Identities, policies and turns, through the catalog."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from muster.digest import Digest
from muster.discovery.base import Change
from muster.errors import ConfigError
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.catalog import Catalog
from muster.model.catalog.decision import Build, Decision, Drop, Members, Refuse
from muster.model.catalog.policy import CohortPolicy, PolicyRule
from muster.model.catalog.status import ModelState, ModelStatus


def card(
    mount: str = "/a", files: str = "I", *, says: bool = True, block: int = 16
) -> dict[str, Any]:
    """A card registered from ``mount``, with ``files``; it ``says`` its identity or does not."""
    content: dict[str, Any] = {
        "display_name": "M",
        "slug": "m",
        "source_path": mount,
        "model_info": None,
        "tokenizer": None,
        "context_length": 0,
        "kv_cache_block_size": block,
        "migration_limit": 0,
        "model_type": "Chat",
        "model_input": "Tokens",
        "worker_type": "aggregated",
        "extra_files": [
            {"path": "http://h/f", "checksum": str(Digest.of(files.encode())), "size": 1}
        ],
    }
    if says:
        content["muster"] = {"identity": str(Digest.of(files.encode()))}
    return content


def key(instance: int) -> str:
    return f"ns/backend/generate/{instance:x}"


def put(instance: int, content: dict[str, Any]) -> Change:
    record = {
        "type": "Model",
        "namespace": "ns",
        "component": "backend",
        "endpoint": "generate",
        "instance_id": instance,
        "card_json": content,
    }
    return Change(key(instance), msgspec.json.encode(record))


def gone(instance: int) -> Change:
    return Change(key(instance), None)


def mdcsum(content: dict[str, Any]) -> str:
    return ModelDeploymentCard.from_json_str(msgspec.json.encode(content)).mdcsum()


def catalog(rule: PolicyRule = PolicyRule.FIRST, *pins: str) -> Catalog:
    return Catalog(retry_max_s=30.0, policy=CohortPolicy.parse(rule, pins))


def builds(decisions: list[Decision]) -> list[Build]:
    return [each for each in decisions if isinstance(each, Build)]


def serve(models: Catalog, *changes: Change) -> Build:
    (build,) = builds(models.apply(changes))
    models.built(build.build_id)
    return build


def serving(models: Catalog) -> list[int]:
    return [
        instance
        for status in models.status()
        if status.is_served
        for instance in status.instance_ids
    ]


def refused(models: Catalog) -> dict[int, str]:
    return {
        instance: status.code
        for status in models.status()
        if status.state is ModelState.REFUSED
        for instance in status.instance_ids
    }


# -- identity


def test_p3_the_same_files_from_other_mounts_serve_together() -> None:
    models = catalog()
    serve(models, put(1, card("/a")))
    assert models.apply([put(2, card("/b"))]) == [
        Members(group=models.status()[0].group, instance_ids=(1, 2))  # type: ignore[arg-type]
    ]
    assert serving(models) == [1, 2]
    assert len({mdcsum(card("/a")), mdcsum(card("/b"))}) == 2


def test_other_files_or_terms_do_not() -> None:
    models = catalog()
    serve(models, put(1, card()))
    models.apply([put(2, card(files="J")), put(3, card(block=32))])
    assert serving(models) == [1]
    assert refused(models) == {2: "incompatible", 3: "incompatible"}


def test_a_member_without_identity_sends_the_others_back_to_their_digests_without_a_rebuild() -> (
    None
):
    models = catalog()
    serve(models, put(1, card("/a")), put(2, card("/b")))
    decisions = models.apply([put(3, card("/a", says=False))])
    assert builds(decisions) == []
    assert not any(isinstance(each, Drop) for each in decisions)
    assert serving(models) == [1, 3]
    assert refused(models) == {2: "incompatible"}
    decisions = models.apply([gone(3)])
    assert builds(decisions) == []
    assert serving(models) == [1, 2]
    assert refused(models) == {}


def test_the_oldest_surviving_member_takes_the_model_along() -> None:
    models = catalog()
    serve(models, put(1, card("/a")), put(2, card("/b")))
    decisions = models.apply([gone(1), put(3, card("/a", says=False))])
    assert builds(decisions) == []
    assert serving(models) == [2]
    assert refused(models) == {3: "incompatible"}


# -- policies


@pytest.mark.parametrize("policy", PolicyRule)
def test_p1_a_minority_never_hides_the_model(policy: PolicyRule) -> None:
    models = catalog(policy)
    serve(models, put(1, card()), put(2, card()))
    (refuse,) = models.apply([put(3, card(files="J"))])
    assert isinstance(refuse, Refuse)
    assert serving(models) == [1, 2]


def test_the_majority_is_built_beside_the_incumbent_and_takes_over_when_it_can() -> None:
    models = catalog(PolicyRule.MAJORITY)
    serve(models, put(1, card()))
    assert builds(models.apply([put(2, card(files="J"))])) == []  # a tie keeps the incumbent
    decisions = models.apply([put(3, card(files="J"))])
    (build,) = builds(decisions)
    assert not any(isinstance(each, Drop) for each in decisions)
    assert serving(models) == [1]
    members, refuse = models.built(build.build_id)
    assert isinstance(members, Members)
    assert members.instance_ids == (2, 3)
    assert isinstance(refuse, Refuse)
    assert (refuse.key, refuse.code) == (key(1), "minority")
    assert serving(models) == [2, 3]


def test_a_majority_that_cannot_be_built_leaves_the_incumbent_serving() -> None:
    models = catalog(PolicyRule.MAJORITY)
    serve(models, put(1, card()))
    (build,) = builds(models.apply([put(2, card(files="J")), put(3, card(files="J"))]))
    models.failed(build.build_id, code="source", message="404", now=0.0)
    assert serving(models) == [1]
    states = {status.instance_ids: status.state for status in models.status()}
    assert states[2, 3] is ModelState.RETRYING
    (again,) = builds(models.due(1.0))
    models.built(again.build_id)
    assert serving(models) == [2, 3]


def test_a_majority_that_is_none_any_more_is_called_off() -> None:
    models = catalog(PolicyRule.MAJORITY)
    serve(models, put(1, card()))
    (build,) = builds(models.apply([put(2, card(files="J")), put(3, card(files="J"))]))
    models.apply([gone(3)])
    assert models.built(build.build_id) == []
    assert serving(models) == [1]


@pytest.mark.parametrize("by", ["mdcsum", "identity", "prefix"])
def test_only_the_pinned_card_serves(by: str) -> None:
    digest = {
        "mdcsum": mdcsum(card(files="J")),
        "identity": str(Digest.of(b"J")),
        "prefix": Digest.of(b"J").hex[:12],
    }[by]
    models = catalog(PolicyRule.FIRST, f"M={digest}", "Other=" + "0" * 8)
    (refuse,) = models.apply([put(1, card())])
    assert isinstance(refuse, Refuse)
    assert refuse.code == "not_pinned"
    serve(models, put(2, card(files="J")))
    assert serving(models) == [2]
    assert refused(models) == {1: "not_pinned"}
    (drop,) = models.apply([gone(2)])
    assert isinstance(drop, Drop)
    assert serving(models) == []


@pytest.mark.parametrize("pin", ["M", "M=", "=" + "0" * 64, "M=xyz12345", "M=abc"])
def test_a_pin_that_makes_no_sense_is_a_config_error(pin: str) -> None:
    with pytest.raises(ConfigError, match="pins no model"):
        CohortPolicy.parse("first", [pin])
    with pytest.raises(ConfigError, match="no cohort policy"):
        CohortPolicy.parse("loudest", [])


# -- turns


def fail(models: Catalog, build: Build, now: float) -> list[Build]:
    """Let a build fail, and give what is built when its pause is over."""
    models.failed(build.build_id, code="source", message="404", now=now)
    at = models.next_retry_at()
    assert at is not None
    return builds(models.due(at))


def test_a_card_that_cannot_be_built_lets_the_next_one_try_and_the_first_that_can_serves() -> None:
    models = catalog()
    (build,) = builds(models.apply([put(1, card(files="bad"))]))
    models.apply([put(2, card(files="worse")), put(3, card(files="good"))])
    tried = [build.members[0].instance_id]
    now = 0.0
    for _ in range(8):
        (build,) = fail(models, build, now)
        now = 1000.0
        tried.append(build.members[0].instance_id)
        if tried[-1] == 3:
            break
    assert tried == [1, 1, 2, 2, 3]
    models.built(build.build_id)
    assert serving(models) == [3]


def test_a_card_that_has_served_keeps_its_turn() -> None:
    models = catalog()
    serve(models, put(1, card()))
    models.apply([put(2, card(files="J"))])
    assert models.due(1e9) == []
    assert serving(models) == [1]


def test_what_was_waited_for_makes_a_build_due_at_once() -> None:
    models = catalog()
    (build,) = builds(models.apply([put(1, card())]))
    models.failed(build.build_id, code="no_instance", message="", now=100.0)
    assert models.due(100.0) == []
    models.hurry(build.group, 100.0)
    assert len(builds(models.due(100.0))) == 1


class FirstWins(RuleBasedStateMachine):
    """Whatever comes and goes, a model that is served stays so while one of its members lives."""

    cards = st.builds(
        card,
        st.sampled_from(["/a", "/b"]),
        st.sampled_from(["I", "J"]),
        says=st.booleans(),
        block=st.sampled_from([16, 32]),
    )

    def __init__(self) -> None:
        super().__init__()
        self.models = catalog()
        self.live: set[int] = set()
        self.building: dict[int, Build] = {}
        self.before: tuple[int, ...] = ()

    def carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Build):
                self.building = {decision.build_id: decision}
            elif isinstance(decision, Drop):
                self.building = {}
                assert not {*self.before} & self.live, "dropped while a member lives"

    @rule(instance=st.integers(1, 4), content=cards)
    def comes(self, instance: int, content: dict[str, Any]) -> None:
        if instance in self.live:
            return  # a record written again with another card counts as gone and come anew
        self.before = tuple(serving(self.models))
        self.live.add(instance)
        self.carry_out(self.models.apply([put(instance, content)]))

    @rule(instance=st.integers(1, 4))
    def goes(self, instance: int) -> None:
        self.before = tuple(serving(self.models))
        self.live.discard(instance)
        self.carry_out(self.models.apply([gone(instance)]))

    @rule()
    def builds_well(self) -> None:
        for number in [*self.building]:
            self.building = {}
            self.before = ()
            self.carry_out(self.models.built(number))

    @invariant()
    def every_member_is_in_exactly_one_cohort_and_none_is_empty(self) -> None:
        statuses: list[ModelStatus] = self.models.status()
        assert all(status.keys for status in statuses)
        keys = [one for status in statuses for one in status.keys]
        assert sorted(keys) == sorted(key(instance) for instance in self.live)

    @invariant()
    def at_most_one_cohort_serves(self) -> None:
        assert sum(status.is_served for status in self.models.status()) <= 1

    @invariant()
    def what_served_goes_on_serving(self) -> None:
        survivors = {*self.before} & self.live
        if survivors:
            assert survivors & {*serving(self.models)}


TestFirstWins = FirstWins.TestCase
