"""The hierarchy of metrics: names, labels, collisions, and the page made of all levels."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PlainCounter
from prometheus_client import Gauge as PlainGauge
from prometheus_client import Histogram as PlainHistogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector

from muster.errors import ConfigError, InvalidArgument
from muster.names import EndpointId
from muster.runtime.metrics.hierarchy import MetricsLevel, MetricsNode
from muster.runtime.metrics.labels import parse_constant_labels, sanitize_label_value

ID = 0x2F0B57E3A1C4D905


@pytest.fixture
def root() -> MetricsNode:
    return MetricsNode.root(ID)


def endpoint_in(root: MetricsNode, path: str) -> MetricsNode:
    return root.endpoint_of(EndpointId.parse(path))


def value(node: Collector, sample: str, **labels: str) -> float | None:
    """The value of the only series with these labels among others; ``None`` if there is none."""
    found = [
        each.value
        for family in node.collect()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    assert len(found) < 2
    return found[0] if found else None


def families(node: Collector) -> dict[str, Metric]:
    found = [*node.collect()]
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


# -- levels ----------------------------------------------------------------------------------------


def test_c9_every_level_knows_its_base_name_its_ancestors_and_the_connection_id(
    root: MetricsNode,
) -> None:
    outer = root.namespace("a")
    inner = outer.namespace("b")
    component = inner.component("back-end")
    endpoint = component.endpoint("generate")
    assert endpoint.base_name == "generate"
    assert endpoint.ancestors == (root, outer, inner, component)
    assert [node.base_name for node in endpoint.ancestors] == ["", "a", "b", "back-end"]
    assert [node.level for node in (*endpoint.ancestors, endpoint)] == [
        MetricsLevel.RUNTIME,
        MetricsLevel.NAMESPACE,
        MetricsLevel.NAMESPACE,
        MetricsLevel.COMPONENT,
        MetricsLevel.ENDPOINT,
    ]
    assert {node.connection_id for node in (*endpoint.ancestors, endpoint)} == {ID}
    assert [node.place for node in (*endpoint.ancestors, endpoint)] == [
        "runtime",
        "namespace a",
        "namespace a.b",
        "component a.b/back-end",
        "endpoint a.b/back-end/generate",
    ]
    assert root.children == (outer,)
    assert outer.children == (inner,)


def test_c9_asking_twice_gives_the_same_level_however_it_is_spelt(root: MetricsNode) -> None:
    endpoint = endpoint_in(root, "ns.backend.generate")
    assert endpoint is root.namespace("ns").component("backend").endpoint("generate")
    assert root.namespace("a.b") is root.namespace("a").namespace("b")
    # A namespace and a component of one name are two things.
    assert root.namespace("a").component("b") is not root.namespace("a.b")


def test_c9_concurrent_calls_get_one_level(root: MetricsNode) -> None:
    found: list[MetricsNode] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(10)
        found.extend(root.namespace("a").component(f"c{n}") for n in range(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 800
    assert len(set(map(id, found))) == 100


def test_c9_levels_are_made_in_their_order_only(root: MetricsNode) -> None:
    component = root.namespace("a").component("b")
    for ask in (root.component, root.endpoint, root.namespace("a").endpoint, component.namespace):
        with pytest.raises(InvalidArgument, match="right below"):
            ask("x")


# -- labels ----------------------------------------------------------------------------------------


def test_c9_each_level_adds_its_labels_and_the_worker_id(root: MetricsNode) -> None:
    component = root.namespace("a").namespace("b-c").component("back-end")
    worker = ("worker_id", "2f0b57e3a1c4d905")
    space, back = ("dynamo_namespace", "a_b_c"), ("dynamo_component", "back_end")
    levels = [root, root.namespace("a.b-c"), component, component.endpoint("Gen")]
    expected = [
        [worker],
        [space, worker],
        [space, back, worker],
        [space, back, ("dynamo_endpoint", "Gen"), worker],
    ]
    for level, labels in zip(levels, expected, strict=True):
        assert level.labels == dict(labels)
        level.gauge(f"g_{level.level}", "A gauge.").set(1)
        (sample,) = families(root)[f"dynamo_component_g_{level.level}"].samples
        assert sample.labels == dict(labels)


def test_c9_a_connection_id_that_is_known_later_is_asked_for_at_the_scrape() -> None:
    ids = [0]
    root = MetricsNode.root(lambda: ids[0])
    root.gauge("g", "A gauge.").set(1)
    ids[0] = 0xABC
    assert value(root, "dynamo_component_g", worker_id="abc") == 1
    assert root.connection_id == 0xABC


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # what a worker of Dynamo 1.6.1 shows for a component of this name
        ("exp-ns", "exp_ns"), ("A-Z", "A_Z"), ("éx", "_x"), ("xé", "x_"), ("xéy", "x_y"),
        ("ééx", "x"), ("xéé y", "x___y"), ("-éx", "x"), ("éa-", "_a_"), ("-é-x", "__x"),
        ("x日本", "x__"), ("日本x", "x"), ("日x", "_x"), ("1x", "_1x"), ("12x", "_12x"),
        ("-1x", "_1x"), (" x", "_x"), ("  x", "x"), ("--x", "x"), ("a--", "a__"), ("é9", "_9"),
        ("_é_x", "__x"), ("_x", "_x"), ("__x", "x"), ("___x", "__x"), ("ñandú", "_and_"),
        ("x--y", "x__y"), ("--9", "_9"), ("a😀b", "a_b"), ("x;y", "x_y"), ("__ _9", "___9"),
        ("+co--mp", "_co__mp"), ("-9_x é/y:z", "_9_x___y_z"), ("９x", "_x"),  # noqa: RUF001
        # Dynamo refuses to serve these; a metric's label is no reason for us to.
        ("", "_"), ("_", "_"), ("---", "__"), ("é", "_"), ("é_", "_"),
    ],
)  # fmt: skip
def test_c9_label_values_are_cleaned_as_the_peer_does(name: str, expected: str) -> None:
    assert sanitize_label_value(name) == expected


@pytest.mark.parametrize(
    "label", ["dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id"]
)
def test_c9_automatic_labels_cannot_be_set_by_hand(root: MetricsNode, label: str) -> None:
    for level in (root, endpoint_in(root, "a.b.c")):
        with pytest.raises(
            InvalidArgument, match=f"'{label}' is set automatically.*'x' at {level.place}"
        ):
            level.counter("x", "A counter.", [label])
        with pytest.raises(InvalidArgument, match=f"'{label}' is set automatically"):
            level.gauge("x", "A gauge.", constant_labels=[(label, "1")])
        with pytest.raises(InvalidArgument, match=f"'{label}' is set automatically"):
            level.attach(CollectorRegistry(), labels=[(label, "1")])
        with pytest.raises(InvalidArgument, match=f"'{label}' is set automatically"):
            level.add_labels([(label, "1")])
    assert [*root.collect()] == []


def test_c9_a_label_is_not_there_twice(root: MetricsNode) -> None:
    with pytest.raises(InvalidArgument, match="'a' is there twice"):
        root.counter("x", "A counter.", ["a", "b", "a"])
    with pytest.raises(InvalidArgument, match="'a' is there twice"):
        root.counter("x", "A counter.", ["a"], constant_labels=[("a", "1")])
    with pytest.raises(InvalidArgument, match="'a' is there twice"):
        root.histogram("x", "A histogram.", constant_labels=[("a", "1"), ("a", "1")])


@pytest.mark.parametrize("label", ["", "9x", "a-b", "a:b", "ä", "a b", "__a", "le", "quantile"])
def test_a_bad_label_name_is_refused_naming_it_and_the_metric(
    root: MetricsNode, label: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"{label!r}.* for the histogram 'x' at runtime"):
        root.histogram("x", "A histogram.", [label])


def test_labels_must_be_a_list_of_names_and_pairs_of_texts(root: MetricsNode) -> None:
    with pytest.raises(InvalidArgument, match="a list of names"):
        root.counter("x", "A counter.", "model")
    for pair in ("ab", ("a",), ("a", 1), ("a", "b", "c")):
        with pytest.raises(InvalidArgument, match="no pair"):
            root.counter("x", "A counter.", constant_labels=[pair])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["", "9x", "a-b", "ä", "a b"])
def test_a_bad_metric_name_is_refused(root: MetricsNode, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is no name for a metric"):
        root.gauge(name, "A gauge.")


@pytest.mark.parametrize("buckets", [[], [1.0, 1.0], [2.0, 1.0]])
def test_buckets_that_do_not_ascend_are_refused(root: MetricsNode, buckets: list[float]) -> None:
    with pytest.raises(InvalidArgument, match=r"not ascending"):
        root.histogram("x", "A histogram.", buckets=buckets)


def test_10691_constant_labels_are_on_all_metrics_of_a_level_and_below(root: MetricsNode) -> None:
    component = root.namespace("a").component("b")
    component.gauge("before", "A gauge.").set(1)
    root.add_labels(parse_constant_labels("cluster=us-west-2, team = search,"))
    component.add_labels([("team", "models"), ("tier", "gold")])
    component.endpoint("c").counter("after", "A counter.", ["team"]).labels("own").inc()
    component.register_prometheus_expfmt_callback(lambda: 'engine_x{cluster="mine"} 1\n')
    root.attach(CollectorRegistry(), automatic=False)
    PlainGauge("plain", "A gauge.", registry=root.registry).set(1)
    labels = {
        name: {
            key: text
            for sample in family.samples
            for key, text in sample.labels.items()
            if key in ("cluster", "team", "tier")
        }
        for name, family in families(root).items()
    }
    assert labels == {
        "dynamo_component_before": {"cluster": "us-west-2", "team": "models", "tier": "gold"},
        "dynamo_component_after": {"cluster": "us-west-2", "team": "own", "tier": "gold"},
        "engine_x": {"cluster": "mine", "team": "models", "tier": "gold"},
        "plain": {"cluster": "us-west-2", "team": "search"},
    }
    assert component.labels["team"] == "models"


def test_10691_constant_labels_that_are_wrong_are_refused_as_a_whole(root: MetricsNode) -> None:
    root.add_labels([("a", "1")])
    for labels in ([("b", "1"), ("a", "2")], [("b", "1"), ("b", "1")], [("b", "1"), ("9", "1")]):
        with pytest.raises(InvalidArgument):
            root.add_labels(labels)
    assert root.labels == {"a": "1", "worker_id": f"{ID:x}"}
    for text in ("a", "a=", "=1", "a=1,a=2", "worker_id=1", "le=1"):
        with pytest.raises(InvalidArgument):
            parse_constant_labels(text)
    assert parse_constant_labels("") == ()
    assert parse_constant_labels("a=b=c") == (("a", "b=c"),)


# -- names, types, the page ------------------------------------------------------------------------


def test_c9_users_metrics_have_the_prefix_once_and_counters_end_in_total(root: MetricsNode) -> None:
    root.counter("a", "A counter.").inc(2)
    root.counter("b_total", "A counter.").inc(3)
    root.gauge("dynamo_component_c", "A gauge.").set(4)
    root.histogram("d", "A histogram.", ["x"], buckets=[1, 2]).labels("y").observe(1.5)
    assert value(root, "dynamo_component_a_total") == 2
    assert value(root, "dynamo_component_b_total") == 3
    assert value(root, "dynamo_component_c") == 4
    assert value(root, "dynamo_component_d_bucket", le="1.0", x="y") == 0
    assert value(root, "dynamo_component_d_bucket", le="2.0") == 1
    assert value(root, "dynamo_component_d_sum") == 1.5
    assert [*families(root)] == [f"dynamo_component_{name}" for name in "abcd"]


def test_c9_a_level_shows_itself_and_what_is_below_and_the_root_shows_all(
    root: MetricsNode,
) -> None:
    one, two = root.namespace("one"), root.namespace("two")
    root.gauge("r", "A gauge.").set(1)
    one.gauge("n", "A gauge.").set(2)
    one.component("c").endpoint("e").gauge("e", "A gauge.").set(3)
    two.gauge("n", "A gauge.").set(4)
    assert {*families(root)} == {f"dynamo_component_{name}" for name in "rne"}
    assert {*families(one)} == {f"dynamo_component_{name}" for name in "ne"}
    assert value(one, "dynamo_component_n") == 2
    assert value(root, "dynamo_component_n", dynamo_namespace="two") == 4


def test_5641_one_name_at_many_places_is_one_family(root: MetricsNode) -> None:
    for number, path in enumerate(["a.b.generate", "a.b.worker_kv_indexer_query", "a.c.generate"]):
        counter = endpoint_in(root, path).counter("calls", "Calls.", ["kind"])
        counter.labels("x").inc(number)
    root.namespace("a").counter("calls", "In other words.", ["kind"]).labels("x").inc(9)
    family = families(root)["dynamo_component_calls"]
    assert len(family.samples) == 4
    assert value(root, "dynamo_component_calls_total", dynamo_component="c") == 2
    page = generate_latest(root).decode()
    assert page.count("# TYPE dynamo_component_calls_total counter\n") == 1
    assert page.count("# HELP dynamo_component_calls_total") == 1


def test_c9_the_same_metric_with_other_constant_labels_is_another_series(
    root: MetricsNode,
) -> None:
    for lora in ("x", "y"):
        root.counter("loads", "Loads.", constant_labels=[("lora", lora)]).inc()
    assert len(families(root)["dynamo_component_loads"].samples) == 2


def test_the_page_is_good_prometheus_text_and_good_openmetrics(root: MetricsNode) -> None:
    registry = CollectorRegistry()
    registry.register(root)
    for path in ("a.b.c", "a.b.d"):
        level = endpoint_in(root, path)
        level.counter("c", "A counter.", ["x"]).labels('"\\\n').inc()
        level.gauge("g", "A gauge.").set(-1.5)
        level.histogram("h", "A histogram.").observe(0.2)
        engine = f'# TYPE eng counter\neng{{p="{path}"}} 3\n'
        level.register_prometheus_expfmt_callback(partial(str, engine))
    text = generate_latest(registry).decode()
    classic = {family.name: family for family in read_text(text)}
    openmetrics: str = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    modern = {family.name: family for family in read_openmetrics(openmetrics)}  # type: ignore[no-untyped-call]
    assert {*classic} == {*modern} == {*families(root)}
    for name, family in modern.items():
        assert {(s.name, *sorted(s.labels.items())) for s in family.samples} == {
            (s.name, *sorted(s.labels.items())) for s in classic[name].samples
        }
    assert "_created" not in text


def test_a_metric_of_prometheus_client_made_for_a_level_gets_its_labels(root: MetricsNode) -> None:
    level = endpoint_in(root, "a.b.c")
    PlainCounter("engine_steps", "Steps.", registry=level.registry).inc(5)
    PlainHistogram("engine_time", "Time.", registry=level.registry).observe(1)
    gauge = PlainGauge("engine_load", "Load.", ["worker_id"], registry=level.registry)
    gauge.labels("mine").set(1)
    assert value(root, "engine_steps_total", dynamo_endpoint="c", worker_id=f"{ID:x}") == 5
    assert value(root, "engine_time_count", dynamo_component="b") == 1
    assert value(root, "engine_load", worker_id="mine", dynamo_namespace="a") == 1


# -- collisions ------------------------------------------------------------------------------------


def test_5641_another_type_under_one_name_is_refused_naming_both_places(root: MetricsNode) -> None:
    endpoint_in(root, "a.b.c").counter("x", "A counter.")
    with pytest.raises(ConfigError, match="types") as caught:
        root.namespace("n").gauge("x", "A gauge.")
    assert "counter 'dynamo_component_x' at endpoint a/b/c" in caught.value.message
    assert "gauge 'dynamo_component_x' at namespace n" in caught.value.message
    assert caught.value.hint
    assert root.namespace("n").collect() == []


def test_5641_other_label_names_under_one_name_are_refused_naming_both_places(
    root: MetricsNode,
) -> None:
    endpoint_in(root, "a.b.c").counter("x", "A counter.", ["k"])
    for labels in ([], ["k", "l"], ["l"]):
        with pytest.raises(ConfigError, match="labels differ") as caught:
            endpoint_in(root, "a.b.d").counter("x", "A counter.", labels)
        assert "endpoint a/b/c" in caught.value.message
        assert "endpoint a/b/d" in caught.value.message


def test_5641_the_same_labels_twice_are_refused_naming_both_places(root: MetricsNode) -> None:
    endpoint_in(root, "a.b.c").counter("x", "A counter.").inc()
    with pytest.raises(
        ConfigError, match=r"endpoint a/b/c collides .* endpoint a/b/c: they have the same"
    ):
        endpoint_in(root, "a.b.c").counter("x_total", "A counter.")
    root.namespace("exp-ns").gauge("y", "A gauge.")
    # Two names of namespaces whose labels cannot be told apart.
    with pytest.raises(ConfigError, match=r"namespace exp_ns collides .* namespace exp-ns: "):
        root.namespace("exp_ns").gauge("y", "A gauge.")
    assert value(root, "dynamo_component_x_total") == 1


def test_5641_lines_of_one_name_from_two_families_are_refused(root: MetricsNode) -> None:
    root.histogram("h", "A histogram.")
    with pytest.raises(ConfigError, match="lines of the same name"):
        root.namespace("a").gauge("h_count", "A gauge.")
    root.gauge("n_total", "A gauge.")
    with pytest.raises(ConfigError, match=r"'dynamo_component_n' at namespace a .* at runtime"):
        root.namespace("a").counter("n", "A counter.")


def test_5641_a_reserved_family_is_nobody_elses(root: MetricsNode) -> None:
    root.reserve("dynamo_component_requests", "counter")
    with pytest.raises(
        ConfigError, match=r"endpoint a/b/c collides .* at runtime: .* one place only"
    ):
        endpoint_in(root, "a.b.c").counter("requests", "Mine.")
    with pytest.raises(ConfigError):
        root.gauge("requests_total", "Mine.")
    root.gauge("mine", "Mine.")
    with pytest.raises(ConfigError):
        root.reserve("dynamo_component_mine", "gauge")


def test_5641_what_collides_unchecked_is_left_out_of_the_page_with_a_warning(
    root: MetricsNode, caplog: pytest.LogCaptureFixture
) -> None:
    root.counter("x", "A counter.").inc()
    level = endpoint_in(root, "a.b.c")
    level.register_prometheus_expfmt_callback(
        lambda: "# TYPE dynamo_component_x gauge\ndynamo_component_x 7\ngood 1\ngood 2\n"
    )
    PlainGauge("dynamo_component_x_total", "A gauge.", registry=level.registry).set(8)
    with caplog.at_level(logging.WARNING, logger="muster"):
        pages = [{*families(root)} for _ in range(3)]
    assert pages == [{"dynamo_component_x", "good"}] * 3
    assert value(root, "dynamo_component_x_total") == 1
    assert value(root, "good") == 1
    assert len(caplog.records) == 3  # each said once
    assert all(record.facts["place"] == "endpoint a/b/c" for record in caplog.records)  # type: ignore[attr-defined]


# -- going away ------------------------------------------------------------------------------------


def test_c9_a_closed_level_is_gone_with_all_below_and_its_names_are_free(root: MetricsNode) -> None:
    component = root.namespace("a").component("b")
    old = component.endpoint("c").counter("x", "A counter.", ["k"])
    component.gauge("y", "A gauge.").set(1)
    component.endpoint("c").register_prometheus_expfmt_callback(lambda: "z 1\n")
    root.gauge("stays", "A gauge.").set(1)
    component.close()
    component.close()
    old.labels("v").inc()
    assert {*families(root)} == {"dynamo_component_stays"}
    again = root.namespace("a").component("b")
    assert again is not component
    again.endpoint("c").gauge("x", "Now a gauge.").set(1)
    assert value(root, "dynamo_component_x") == 1
    for ask in (lambda: component.counter("n", "A counter."), lambda: component.endpoint("c")):
        with pytest.raises(ConfigError, match="metrics of component a/b are closed"):
            ask()


def test_closing_an_old_level_leaves_its_successor(root: MetricsNode) -> None:
    old = endpoint_in(root, "a.b.c")
    old.close()
    new = endpoint_in(root, "a.b.c")
    new.gauge("g", "A gauge.").set(1)
    old.close()
    assert endpoint_in(root, "a.b.c") is new
    assert value(root, "dynamo_component_g") == 1


def test_an_unregistered_metric_is_gone_and_its_name_is_free(root: MetricsNode) -> None:
    gauge = root.gauge("x", "A gauge.")
    gauge.set(1)
    root.unregister(gauge)
    root.unregister(gauge)
    assert [*root.collect()] == []
    root.counter("x", "A counter.").inc()
    assert value(root, "dynamo_component_x_total") == 1


def test_many_levels_that_come_and_go_leave_nothing(root: MetricsNode) -> None:
    component = root.namespace("a").component("b")
    for number in range(1000):
        level = component.endpoint(f"lora-{number}")
        level.counter("x", "A counter.", ["k"]).labels("v").inc()
        level.close()
    assert component.children == ()
    assert [*root.collect()] == []
    root.histogram("x", "Any type: nobody has the name.")


# -- callbacks -------------------------------------------------------------------------------------


def test_the_text_of_a_callback_is_on_the_page_with_its_own_names_and_labels(
    root: MetricsNode,
) -> None:
    level = endpoint_in(root, "a.b.c")
    level.register_prometheus_expfmt_callback(
        lambda: (
            "# HELP vllm:steps_total Steps.\n# TYPE vllm:steps_total counter\n"
            'vllm:steps_total{engine="0"} 3\n'
            "# TYPE my_thing counter\nmy_thing 4\n"
        )
    )
    found = families(root)
    assert found["vllm:steps"].type == "counter"
    assert [sample.labels for sample in found["vllm:steps"].samples] == [{"engine": "0"}]
    assert found["vllm:steps"].documentation == "Steps."
    assert "\nmy_thing 4.0\n" in generate_latest(root).decode()


def test_a_callback_that_fails_takes_nothing_else_along_and_is_said_once(
    root: MetricsNode, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[object] = [
        OSError("engine gone"),
        OSError("engine gone"),
        "{ no text",
        5,
        "x 1\n",
    ]

    def answer() -> str:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    root.register_prometheus_expfmt_callback(answer)
    root.gauge("g", "A gauge.").set(1)
    with caplog.at_level(logging.WARNING, logger="muster"):
        for _ in range(4):
            assert {*families(root)} == {"dynamo_component_g"}
    assert len(caplog.records) == 1
    assert "engine gone" in str(caplog.records[0].facts)  # type: ignore[attr-defined]
    assert {*families(root)} == {"dynamo_component_g", "x"}


def test_a_collector_that_fails_is_left_out(root: MetricsNode) -> None:
    class Broken(Collector):
        def collect(self) -> list[Metric]:
            raise RuntimeError("broken")

    class Working(Collector):
        def collect(self) -> list[Metric]:
            return [GaugeMetricFamily("works", "A gauge.", value=1)]

    root.attach(Broken())
    working = Working()
    root.attach(working, labels=[("k", "v")])
    assert value(root, "works", k="v", worker_id=f"{ID:x}") == 1
    root.unregister(working)
    assert [*root.collect()] == []


def test_typed_families_are_for_exporters_and_not_on_the_page(root: MetricsNode) -> None:
    level = endpoint_in(root, "a.b.c")
    level.register_prometheus_typed_callback(
        lambda: [
            ("t_seconds", "Time.", "gauge", "seconds", [("t_seconds", [("k", "v")], 1.5, 12.0)]),
            ("n", "Number.", "counter", "", [("n_total", [], 2.0)]),
        ]
    )
    level.register_prometheus_typed_callback(lambda: [("bad",)])  # type: ignore[list-item]
    time, number = root.typed_families()
    assert (time.name, time.type, time.unit) == ("t_seconds", "gauge", "seconds")
    assert time.samples[0].labels == {"k": "v"}
    assert time.samples[0].timestamp == 12.0
    assert number.samples[0].value == 2
    assert [*root.collect()] == []


def test_scrapes_and_changes_may_go_on_at_the_same_time(root: MetricsNode) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def change(number: int) -> None:
        try:
            while not stop.is_set():
                level = endpoint_in(root, f"a.b.e{number}")
                level.counter("x", "A counter.").inc()
                level.close()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=change, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        families(root)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert failures == []
