from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.base import Change
from muster.model.catalog.catalog import Catalog
from muster.model.catalog.cohort import retry_delay_s
from muster.model.catalog.decision import Build, Decision, Drop, Members, Refuse
from muster.model.catalog.status import ModelState, ModelStatus


def card(name: str = "Org/M", **fields: Any) -> dict[str, Any]:
    return {
        "display_name": name,
        "slug": "org_m",
        "model_info": None,
        "tokenizer": None,
        "context_length": 0,
        "kv_cache_block_size": 16,
        "migration_limit": 0,
        "model_type": "Chat | Completions",
        "model_input": "Tokens",
        "worker_type": "aggregated",
        "needs": [],
        "runtime_config": {},
        "media_decoder": None,
        "media_fetcher": None,
    } | fields


ONE = card()
TWO = card(kv_cache_block_size=32)
THREE = card(kv_cache_block_size=64)


def key(instance: int, namespace: str = "ns", suffix: str = "") -> str:
    return f"{namespace}/backend/generate/{instance:x}" + (f"/{suffix}" if suffix else "")


def put(instance: int, content: dict[str, Any], namespace: str = "ns", suffix: str = "") -> Change:
    record = {
        "type": "Model",
        "namespace": namespace,
        "component": "backend",
        "endpoint": "generate",
        "instance_id": instance,
        "card_json": content,
    } | ({"model_suffix": suffix} if suffix else {})
    return Change(key(instance, namespace, suffix), msgspec.json.encode(record))


def gone(instance: int) -> Change:
    return Change(key(instance), None)


def catalog(**options: Any) -> Catalog:
    return Catalog(retry_max_s=30.0, **options)


def one_build(decisions: list[Decision]) -> Build:
    (build,) = [each for each in decisions if isinstance(each, Build)]
    return build


def serve(models: Catalog, *changes: Change) -> Build:
    """Apply, and let the one build that follows succeed."""
    build = one_build(models.apply(changes))
    models.built(build.build_id)
    return build


def only(models: Catalog) -> ModelStatus:
    (entry,) = models.status()
    return entry


def test_a_card_is_built_then_served() -> None:
    models = catalog()
    build = one_build(models.apply([put(7, ONE)]))
    assert build.group.worker_set == '["ns","backend","generate","chat|completions","aggregated"]'
    assert build.group.model == "Org/M"
    assert [member.instance_id for member in build.members] == [7]
    assert only(models).state is ModelState.SEEN
    models.fetching(build.build_id, files_done=1, files_total=4)
    assert (only(models).state, only(models).files_done, only(models).files_total) == (
        ModelState.FETCHING,
        1,
        4,
    )
    models.loading(build.build_id)
    assert only(models).state is ModelState.LOADING
    assert models.built(build.build_id) == [Members(group=build.group, instance_ids=(7,))]
    assert only(models).is_served
    assert only(models).mdcsum == build.mdcsum


def test_a_snapshot_gives_one_build_with_all_members_in_key_order() -> None:
    build = one_build(catalog().apply([put(9, ONE), put(3, ONE), put(0xA0, ONE)]))
    assert [member.key for member in build.members] == [key(3), key(9), key(0xA0)]


def test_members_come_and_go_without_a_new_build() -> None:
    models = catalog()
    build = serve(models, put(1, ONE))
    assert models.apply([put(2, ONE)]) == [Members(group=build.group, instance_ids=(1, 2))]
    assert models.apply([gone(1)]) == [Members(group=build.group, instance_ids=(2,))]
    assert only(models).state is ModelState.SERVING
    (drop,) = models.apply([gone(2)])
    assert isinstance(drop, Drop)
    assert drop.group == build.group
    assert models.status() == []


def test_the_same_record_again_decides_nothing() -> None:
    models = catalog()
    serve(models, put(1, ONE))
    assert models.apply([put(1, ONE)]) == []


def test_unknown_keys_going_away_decide_nothing() -> None:
    assert catalog().apply([gone(5)]) == []


# -- cohorts


def test_the_first_card_seen_keeps_the_group_and_the_other_is_refused_by_digest() -> None:
    models = catalog()
    build = serve(models, put(1, ONE))
    (refuse,) = models.apply([put(2, TWO)])
    assert isinstance(refuse, Refuse)
    assert (refuse.key, refuse.model, refuse.code) == (key(2), "Org/M", "incompatible")
    served, refused = models.status()
    assert served.is_served
    assert served.instance_ids == (1,)
    assert refused.state is ModelState.REFUSED
    assert refused.code == "incompatible"
    assert refused.mdcsum is not None
    assert build.mdcsum in refused.message
    assert refused.mdcsum in refused.message
    assert refused.instance_ids == (2,)


def test_a_refusal_is_said_once() -> None:
    models = catalog()
    serve(models, put(1, ONE))
    assert len(models.apply([put(2, TWO)])) == 1
    assert models.apply([put(2, TWO)]) == []
    (second,) = models.apply([put(3, TWO)])
    assert isinstance(second, Refuse)
    assert second.key == key(3)


def test_the_oldest_other_card_takes_over_when_the_incumbents_are_gone() -> None:
    models = catalog()
    first = serve(models, put(1, ONE), put(2, ONE))
    models.apply([put(9, TWO)])
    models.apply([put(3, THREE)])
    assert [type(each) for each in models.apply([gone(1)])] == [Members]
    drop, build = models.apply([gone(2)])
    assert isinstance(drop, Drop)
    assert isinstance(build, Build)
    assert build.group == first.group
    assert [member.key for member in build.members] == [key(9)]
    assert build.mdcsum in drop.message
    models.built(build.build_id)
    states = {entry.keys: entry.state for entry in models.status()}
    assert states == {(key(9),): ModelState.SERVING, (key(3),): ModelState.REFUSED}


def test_a_card_that_comes_back_waits_at_the_end() -> None:
    models = catalog()
    serve(models, put(1, ONE))
    models.apply([put(2, TWO)])
    models.apply([gone(1)])
    assert [type(each) for each in models.apply([put(1, ONE)])] == [Refuse]


def test_a_worker_that_restarts_between_two_decisions_keeps_its_cards_place() -> None:
    models = catalog()
    build = serve(models, put(1, ONE))
    models.apply([put(2, TWO)])
    decisions = models.apply([gone(1), put(3, ONE)])
    assert decisions == [Members(group=build.group, instance_ids=(3,))]


def test_a_key_written_again_with_another_card_has_come_anew() -> None:
    # a watch may merge a removal and what follows it
    models = catalog()
    first = serve(models, put(1, ONE))
    drop, build = models.apply([put(1, TWO)])
    assert isinstance(drop, Drop)
    assert isinstance(build, Build)
    assert build.mdcsum != first.mdcsum


def test_a_key_that_moves_to_another_model_leaves_the_first() -> None:
    models = catalog()
    first = serve(models, put(1, ONE))
    decisions = models.apply([put(1, card("Org/Other"))])
    assert {type(each) for each in decisions} == {Drop, Build}
    assert [each.group for each in decisions if isinstance(each, Drop)] == [first.group]
    assert [entry.model for entry in models.status()] == ["Org/Other"]


def test_other_addresses_of_the_same_files_are_used_by_the_next_build() -> None:
    def located(host: str) -> dict[str, Any]:
        file = {"path": f"http://{host}/config.json", "checksum": "blake3:" + "a" * 64}
        return card(model_info={"hf_config_json": file})

    models = catalog()
    build = one_build(models.apply([put(1, located("old"))]))
    assert [type(each) for each in models.apply([put(1, located("new"))])] == [Members]
    models.failed(build.build_id, code="source", message="gone", now=100.0)
    again = one_build(models.due(100.0))
    assert again.members[0].card.model_info is not None
    assert "http://new/config.json" in again.members[0].card.to_json_str()


# -- builds that fail


def test_pauses_double_up_to_the_limit() -> None:
    assert [retry_delay_s(attempt, 30.0) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert retry_delay_s(10**6, 30.0) == 30.0
    assert retry_delay_s(1, 0.05) == 0.05


def test_a_failed_build_is_tried_again_after_its_pause_for_ever() -> None:
    models = catalog()
    build = one_build(models.apply([put(1, ONE)]))
    now = 1000.0
    for attempt, pause in enumerate([1, 2, 4, 8, 16, 30, 30], start=1):
        models.failed(build.build_id, code="source", message="status 404", now=now)
        entry = only(models)
        assert (entry.state, entry.code, entry.message) == (
            ModelState.RETRYING,
            "source",
            "status 404",
        )
        assert (entry.attempt, entry.retry_at) == (attempt, now + pause)
        assert models.next_retry_at() == now + pause
        assert models.due(now + pause - 0.001) == []
        now += pause
        build = one_build(models.due(now))
        assert build.attempt == attempt
        assert models.due(now) == []
        assert only(models).message == "status 404"
    models.built(build.build_id)
    assert (only(models).attempt, only(models).message) == (0, "")
    assert models.next_retry_at() is None


def test_each_attempt_asks_another_member_first() -> None:
    models = catalog()
    build = one_build(models.apply([put(1, ONE), put(2, ONE), put(3, ONE)]))
    firsts = []
    for _ in range(4):
        firsts.append(build.members[0].instance_id)
        assert {member.instance_id for member in build.members} == {1, 2, 3}
        models.failed(build.build_id, code="source", message="", now=0.0)
        build = one_build(models.due(1e9))
    assert firsts == [1, 2, 3, 1]


def test_a_new_member_ends_the_pause_and_resets_it() -> None:
    models = catalog()
    build = one_build(models.apply([put(1, ONE)]))
    for _ in range(3):
        models.failed(build.build_id, code="source", message="", now=0.0)
        build = one_build(models.due(1e9))
    models.failed(build.build_id, code="source", message="", now=0.0)
    decisions = models.apply([put(2, ONE)])
    assert [type(each) for each in decisions] == [Members, Build]
    build = one_build(decisions)
    assert build.attempt == 0
    models.failed(build.build_id, code="source", message="", now=0.0)
    assert models.next_retry_at() == 1.0


def test_a_build_whose_members_changed_meanwhile_is_due_again_at_once() -> None:
    models = catalog()
    build = one_build(models.apply([put(1, ONE), put(2, ONE)]))
    models.apply([gone(1)])
    models.failed(build.build_id, code="source", message="refused", now=50.0)
    again = one_build(models.due(50.0))
    assert [member.instance_id for member in again.members] == [2]
    assert again.attempt == 0


def test_a_refused_newcomer_does_not_disturb_a_pause() -> None:
    models = catalog()
    build = one_build(models.apply([put(1, ONE)]))
    models.failed(build.build_id, code="source", message="", now=0.0)
    assert [type(each) for each in models.apply([put(2, TWO)])] == [Refuse]
    assert models.next_retry_at() == 1.0


def test_reports_of_a_build_that_was_dropped_or_replaced_are_ignored() -> None:
    models = catalog()
    stale = one_build(models.apply([put(1, ONE)])).build_id
    build = one_build(models.apply([put(1, TWO)]))
    models.fetching(stale, files_done=1, files_total=1)
    models.loading(stale)
    assert models.built(stale) == []
    models.failed(stale, code="source", message="late", now=0.0)
    assert only(models).state is ModelState.SEEN
    assert models.next_retry_at() is None
    models.built(build.build_id)
    assert models.built(build.build_id) == []
    models.failed(build.build_id, code="source", message="late", now=0.0)
    assert only(models).is_served


# -- which records count


def test_models_at_different_endpoints_and_namespaces_are_groups_of_their_own() -> None:
    models = catalog()
    decisions = models.apply([put(1, ONE, "a"), put(1, TWO, "b"), put(1, card("Other"), "a")])
    # the third replaces the first under its key
    assert sorted(each.group.model for each in decisions if isinstance(each, Build)) == [
        "Org/M",
        "Other",
    ]


def test_a_lora_is_a_model_of_its_own() -> None:
    models = catalog()
    lora = card("My/LoRA v1", slug="my_lora_v1", lora={"name": "My/LoRA v1"})
    decisions = models.apply([put(1, ONE), put(1, lora, suffix="my_lora_v1")])
    builds = [each for each in decisions if isinstance(each, Build)]
    assert sorted(build.group.model for build in builds) == ["My/LoRA v1", "Org/M"]


@pytest.mark.parametrize(
    ("model_type", "worker_type", "expected"),
    [
        ("Chat | Completions", None, '"chat|completions","aggregated"]'),
        ("Completions|Chat", "decode", '"chat|completions","decode"]'),
        ("Prefill", None, '"prefill","prefill"]'),
        ("TensorBased", "aggregated", '"tensorbased","aggregated"]'),
    ],
)
def test_a_groups_key_has_surfaces_and_the_effective_worker_type(
    model_type: str, worker_type: str | None, expected: str
) -> None:
    content = card(model_type=model_type, worker_type=worker_type)
    build = one_build(catalog().apply([put(1, content)]))
    assert build.group.worker_set.endswith(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"prod", "prod-2", "test"}),
        ({"namespace": ""}, {"prod", "prod-2", "test"}),
        ({"namespace": "prod"}, {"prod"}),
        ({"namespace_prefix": "prod"}, {"prod", "prod-2"}),
        ({"namespace": "test", "namespace_prefix": "prod-"}, {"prod-2"}),
    ],
)
def test_only_wanted_namespaces_are_looked_at(options: dict[str, str], expected: set[str]) -> None:
    models = catalog(**options)
    models.apply(
        [put(1, ONE, namespace) for namespace in ("prod", "prod-2", "test")]
        + [Change(key(2, namespace), b"{") for namespace in ("prod", "prod-2", "test")]
    )
    groups = {entry.group.namespace for entry in models.status() if entry.group}
    unreadable = {entry.keys[0].split("/")[0] for entry in models.status() if not entry.group}
    assert groups == unreadable == expected


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (b"{", ""),
        (b"\xff", ""),
        (b"[]", ""),
        (put(1, {"display_name": "Half"}).value, "Half"),
        (put(1, ONE | {"kv_cache_block_size": -1}).value, "Org/M"),
        (put(1, ONE | {"tokenizer": {"nonsense": 1}}).value, "Org/M"),
    ],
)
def test_an_unreadable_record_is_refused_once_with_a_reason(value: bytes, model: str) -> None:
    models = catalog()
    (refuse,) = models.apply([Change(key(1), value)])
    assert isinstance(refuse, Refuse)
    assert (refuse.key, refuse.model) == (key(1), model)
    assert refuse.message
    assert models.apply([Change(key(1), value)]) == []
    entry = only(models)
    assert (entry.state, entry.model, entry.message) == (
        ModelState.REFUSED,
        model,
        refuse.message,
    )
    assert models.apply([gone(1)]) == []
    assert models.status() == []


def test_an_unreadable_record_leaves_what_was_good_in_place() -> None:
    models = catalog()
    serve(models, put(1, ONE))
    assert [type(each) for each in models.apply([Change(key(1), b"{")])] == [Refuse]
    assert {entry.state for entry in models.status()} == {ModelState.SERVING, ModelState.REFUSED}
    assert models.apply([put(1, ONE)]) == []
    assert only(models).is_served


def test_a_listing_heals_what_a_watch_lost() -> None:
    models = catalog()
    build = serve(models, put(1, ONE), put(2, ONE))
    listing = {change.key: change.value for change in [put(2, ONE), put(3, ONE)] if change.value}
    assert models.sync(listing) == [Members(group=build.group, instance_ids=(2, 3))]
    assert models.sync(listing) == []
    assert [type(each) for each in models.sync({})] == [Drop]


def test_a_cohort_that_lets_the_next_one_try_waits_for_its_turn_and_not_for_a_time() -> None:
    shell = Shell()
    for event in (("put", 1, ONE), ("put", 2, TWO), *[("failed", 1, None), ("due", 1, None)] * 3):
        shell.play(*event)
        shell.check()
    assert {entry.state for entry in shell.models.status()} == {
        ModelState.SEEN,
        ModelState.REFUSED,
    }


# -- properties


_events = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 4), st.sampled_from([ONE, TWO, THREE])),
        st.tuples(st.just("gone"), st.integers(1, 4), st.none()),
        st.tuples(st.sampled_from(["built", "failed", "due", "bad"]), st.integers(1, 4), st.none()),
    ),
    max_size=30,
)


class Shell:
    """Obeys a catalog's decisions, and knows what the registry holds."""

    def __init__(self) -> None:
        self.models = catalog()
        self.present: dict[int, dict[str, Any]] = {}
        self.serving: tuple[int, ...] | None = None
        self.running: Build | None = None

    def play(self, what: str, instance: int, content: dict[str, Any] | None) -> None:
        if content is not None:
            self.present[instance] = content
            self.obey(self.models.apply([put(instance, content)]))
        elif what == "gone":
            self.present.pop(instance, None)
            self.obey(self.models.apply([gone(instance)]))
        elif what == "bad":
            self.obey(self.models.apply([Change(key(instance), b"{")]))
        elif what == "due":
            self.obey(self.models.due(1e9))
        elif self.running is not None:
            self.end_build(self.running, succeeds=what == "built")

    def end_build(self, build: Build, *, succeeds: bool) -> None:
        self.running = None
        if succeeds:
            self.serving = ()
            self.obey(self.models.built(build.build_id))
        else:
            self.models.failed(build.build_id, code="source", message="x", now=0.0)

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Drop):
                self.serving, self.running = None, None
            elif isinstance(decision, Build):
                self.running = decision
                assert {each.instance_id for each in decision.members} <= set(self.present)
            elif isinstance(decision, Members) and self.serving is not None:
                self.serving = decision.instance_ids

    def check(self) -> None:
        status = self.models.status()
        served = [entry for entry in status if entry.is_served]
        waiting = [entry for entry in status if entry.state is ModelState.RETRYING]
        assert [entry.instance_ids for entry in served] == (
            [] if self.serving is None else [self.serving]
        )
        assert len({id(self.present[each]) for each in self.serving or ()}) <= 1
        seen = [each for entry in status if entry.group for each in entry.instance_ids]
        assert sorted(seen) == sorted(self.present)
        assert (self.models.next_retry_at() is not None) == bool(waiting)
        assert not self.present or served or waiting or self.running


@given(events=_events)
def test_whatever_happens_what_is_served_is_what_the_registry_says(
    events: list[tuple[str, int, dict[str, Any] | None]],
) -> None:
    shell = Shell()
    for event in events:
        shell.play(*event)
        shell.check()
