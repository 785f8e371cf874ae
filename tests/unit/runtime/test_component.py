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
