"""The component model (rows C1-C7 of the design record): names with a runtime behind them."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance
from muster.errors import InvalidArgument
from muster.runtime import DistributedRuntime, EndpointId
from muster.testing.loops import run
from muster.testing.runtimes import runtime_in


def in_runtime(check: object) -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            result = check(runtime)  # type: ignore[operator]
            if asyncio.iscoroutine(result):
                await result

    run(scenario())


def test_c2_nested_namespaces_join_with_dots_and_components_are_kept() -> None:
    def check(runtime: DistributedRuntime) -> None:
        inner = runtime.namespace("a").namespace("b").namespace("c")
        assert inner.name == str(inner) == "a.b.c"
        assert inner.component("x") is runtime.namespace("a").namespace("b").namespace(
            "c"
        ).component("x")
        assert inner.component("x") is not runtime.namespace("a").component("x")

    in_runtime(check)


def test_c2_concurrent_calls_get_one_component() -> None:
    def check(runtime: DistributedRuntime) -> None:
        found: list[object] = []
        start = threading.Barrier(8)

        def ask() -> None:
            start.wait()
            found.append(runtime.namespace("n").component("c"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(each) for each in found}) == 1

    in_runtime(check)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Backend", "'B' at position 0"),
        ("back end", "' ' at position 4"),
        ("a.b", r"'\.' at position 1"),
        ("modèle", "'è' at position 3"),
        ("", "must not be empty"),
    ],
)
def test_c3_a_bad_name_is_refused_naming_the_character(name: str, complaint: str) -> None:
    def check(runtime: DistributedRuntime) -> None:
        with pytest.raises(InvalidArgument, match=complaint):
            runtime.namespace(name)
        with pytest.raises(InvalidArgument, match=complaint):
            runtime.namespace("n").component(name)

    in_runtime(check)


def test_c2_a_dotted_name_is_refused_with_the_way_to_nest() -> None:
    def check(runtime: DistributedRuntime) -> None:
        with pytest.raises(InvalidArgument) as caught:
            runtime.namespace("a.b")
        assert caught.value.hint == "nest one namespace in another: namespace('a').namespace('b')"
        assert runtime.namespace("a").namespace("b").parent is runtime.namespace("a")
        assert runtime.namespace("a").parent is None

    in_runtime(check)


def test_c2_namespaces_are_equal_by_name() -> None:
    def check(runtime: DistributedRuntime) -> None:
        other = runtime_in(MemoryRegistry()).namespace("a")
        assert runtime.namespace("a") == other
        assert hash(runtime.namespace("a")) == hash(other)
        assert runtime.namespace("a") != runtime.namespace("b")

    in_runtime(check)


def test_c3_components_whose_text_is_the_same_are_told_apart_by_their_names() -> None:
    def check(runtime: DistributedRuntime) -> None:
        nested = runtime.namespace("a").namespace("b").component("c")
        dotted = runtime.namespace("a").component_of("b.c")  # as somebody else may call it
        assert str(nested) == str(dotted)
        assert nested != dotted

    in_runtime(check)


def test_c3_c5_labels_are_inherited_downwards() -> None:
    def check(runtime: DistributedRuntime) -> None:
        outer = runtime.namespace("a")
        inner = outer.namespace("b")
        component = inner.component("c")
        endpoint = component.endpoint("e")
        endpoint.add_label("model", "tiny")
        component.add_label("tier", "gold")
        outer.add_label("region", "north")
        inner.add_label("zone", "1")
        assert [*endpoint.labels.items()] == [
            ("region", "north"),
            ("zone", "1"),
            ("tier", "gold"),
            ("model", "tiny"),
        ]
        assert component.labels == {"region": "north", "zone": "1", "tier": "gold"}
        assert inner.labels == {"region": "north", "zone": "1"}
        assert outer.labels == {"region": "north"}
        assert outer.component("c").labels == {"region": "north"}
        assert inner.component("c").labels == component.labels  # the component is kept
        assert component.endpoint("e").labels == component.labels  # an endpoint is made anew

    in_runtime(check)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("region", "component a.c has a label 'region' already, with the value 'north'"),
        ("dynamo_namespace", "'dynamo_namespace' is set automatically"),
        ("dynamo_component", "set automatically"),
        ("dynamo_endpoint", "set automatically"),
        ("worker_id", "set automatically"),
        ("le", "reserved"),
        ("quantile", "reserved"),
        ("", "no label name"),
        ("1a", "no label name"),
        ("a-b", "no label name"),
        ("__a", "reserved"),
        ("ä", "no label name"),
    ],
)
def test_c3_a_label_that_is_taken_reserved_or_none_is_refused(name: str, complaint: str) -> None:
    def check(runtime: DistributedRuntime) -> None:
        runtime.namespace("a").add_label("region", "north")
        component = runtime.namespace("a").component("c")
        with pytest.raises(InvalidArgument, match=complaint):
            component.add_label(name, "south")
        assert component.labels == {"region": "north"}

    in_runtime(check)


def test_c3_a_label_is_added_once() -> None:
    def check(runtime: DistributedRuntime) -> None:
        endpoint = runtime.endpoint("a.c.e")
        endpoint.add_label("tier", "gold")
        with pytest.raises(InvalidArgument, match="endpoint a/c/e has a label 'tier' already"):
            endpoint.add_label("tier", "gold")
        with pytest.raises(InvalidArgument, match="no pair"):
            endpoint.add_label("number", 1)  # type: ignore[arg-type]

    in_runtime(check)


def test_c3_components_are_equal_by_name_and_have_a_slug() -> None:
    def check(runtime: DistributedRuntime) -> None:
        one = runtime.namespace("exp-ns").component("backend")
        other = runtime_in(MemoryRegistry()).namespace("exp-ns").component("backend")
        assert one == other
        assert hash(one) == hash(other)
        assert one != runtime.namespace("exp-ns").component("frontend")
        assert str(one) == "exp-ns.backend"
        assert one.service_name == "exp-ns_backend"

    in_runtime(check)


def record(path: str, number: int) -> tuple[str, bytes]:
    namespace, component, endpoint = path.split("/")
    value = {
        "type": "Endpoint",
        "component": component,
        "endpoint": endpoint,
        "namespace": namespace,
        "instance_id": number,
        "transport": {"tcp": f"127.0.0.1:1/{number:x}/{path}"},
        "field_of_the_future": [1],
    }
    return f"{path}/{number:x}", msgspec.json.encode(value)


def test_c4_instances_of_this_component_only_sorted_by_path() -> None:
    async def check(runtime: DistributedRuntime) -> None:
        for path, number in [
            ("n/back/gen", 2**63 + 5),
            ("n/back/gen", 7),
            ("n/back/abc", 9),
            ("n/backend/gen", 1),
            ("m/back/gen", 1),
        ]:
            await runtime.discovery.register(INSTANCES, *record(path, number))
        await runtime.discovery.register(INSTANCES, "n/back/gen/bad", b"not json")
        found = await runtime.namespace("n").component("back").list_instances()
        assert [str(each) for each in found] == [
            "n/back/abc/9",
            "n/back/gen/7",
            f"n/back/gen/{2**63 + 5}",
        ]

    in_runtime(check)


def test_c5_endpoints_know_their_names_and_are_equal_by_them() -> None:
    def check(runtime: DistributedRuntime) -> None:
        endpoint = runtime.namespace("n").component("c").endpoint("e")
        assert endpoint.id() == EndpointId("n", "c", "e")
        assert str(endpoint) == "n/c/e"
        assert endpoint.component() == runtime.namespace("n").component("c")
        assert endpoint == runtime.endpoint("dyn://n.c.e") == runtime.endpoint("n.c.e")
        assert endpoint != runtime.endpoint("n.c.f")
        assert hash(endpoint) == hash(runtime.endpoint("n.c.e"))
        assert endpoint.connection_id() == runtime.instance_id

    in_runtime(check)


@pytest.mark.parametrize("path", ["", "a.b", "a.b.c.d", "a/b/c", "a..c", "dyn://"])
def test_c5_a_bad_endpoint_path_is_refused_in_the_peers_words(path: str) -> None:
    def check(runtime: DistributedRuntime) -> None:
        with pytest.raises(InvalidArgument) as caught:
            runtime.endpoint(path)
        assert str(caught.value) == (
            f"Invalid endpoint path '{path}'. Expected format: 'namespace.component.endpoint' or "
            "'dyn://namespace.component.endpoint'"
        )

    in_runtime(check)


def test_c5_names_in_an_endpoint_path_are_taken_as_they_are() -> None:
    in_runtime(lambda runtime: runtime.endpoint("A.b c.d"))


def test_c6_c7_an_instance_reads_and_orders_by_its_path() -> None:
    first = Instance.from_json(record("n/c/e", 10)[1])
    second = Instance.from_json(record("n/c/f", 2)[1])
    assert first < second
    assert str(first) == "n/c/e/10"
    assert first.endpoint_id == EndpointId("n", "c", "e")
    assert (first.transport.kind, first.device_type) == ("tcp", None)
