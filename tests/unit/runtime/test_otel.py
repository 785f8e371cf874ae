"""Export of spans: to a real receiver of OTLP over HTTP."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from muster.config.tracing import TracingSettings
from muster.errors import ConfigError
from muster.runtime.otel import OtelExporter, configure_otel, is_sampled
from muster.testing.loops import run
from muster.trace import TraceContext
from muster.wire.context import Context
from muster.wire.span import SpanProxy, sink
from muster.wire.trace_headers import context_from_headers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the requests it is sent."""

    daemon_threads = True

    def __init__(self, gate: threading.Event | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.gate = gate

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Any]:
        """The spans received, with their resource."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        found = []
        for _, _, body in self.requests:
            message = ExportTraceServiceRequest.FromString(body)
            for resource in message.resource_spans:
                names = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [(names["service.name"], scope.scope.name, s) for s in scope.spans]
        return found


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.gate is not None:
            self.server.gate.wait(30)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def gate() -> threading.Event:
    made = threading.Event()
    made.set()
    return made


@pytest.fixture
def receiver(gate: threading.Event) -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    with Receiver(gate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        gate.set()
        server.shutdown()
        thread.join(10)


def attributes(span: Any) -> dict[str, Any]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


def fail_in(span: SpanProxy) -> None:
    with span:
        raise ValueError("boom")


def test_spans_reach_the_collector_with_the_ids_the_requests_carry(receiver: Receiver) -> None:
    async def scenario() -> Context:
        settings = TracingSettings(enabled=True, endpoint=f"{receiver.url}/", service_name="w1")
        exporter = configure_otel(settings)
        assert exporter is not None
        assert sink() is exporter
        context = context_from_headers({"traceparent": PARENT, "tracestate": "a=1"}, "r1")
        served = context.begin_span("handle_payload", kind="server", attributes={"endpoint": "e"})
        assert served is not None
        with pytest.raises(ValueError, match="boom"):
            fail_in(context.start_span("prefill", {"tokens": 7}))
        served.set_status("ok")
        served.end()
        await exporter.close()
        assert sink() is None
        return context

    context = run(scenario())
    (path, headers, _), *_ = receiver.requests
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    found = {span.name: span for _, _, span in receiver.spans()}
    assert {(service, scope) for service, scope, _ in receiver.spans()} == {("w1", "muster")}
    served, child = found["handle_payload"], found["prefill"]
    assert context.trace_id is not None
    assert served.trace_id.hex() == child.trace_id.hex() == context.trace_id
    assert served.span_id.hex() == context.span_id
    assert served.parent_span_id.hex() == "b7ad6b7169203331"
    assert child.parent_span_id == served.span_id
    assert (served.kind, child.kind) == (2, 1)  # server, internal
    assert (served.status.code, child.status.code, child.status.message) == (1, 2, "ValueError")
    assert attributes(served) == {"request_id": "r1", "endpoint": "e"}
    assert attributes(child) == {"request_id": "r1", "tokens": 7}
    assert [event.name for event in child.events] == ["exception"]
    assert served.start_time_unix_nano <= child.start_time_unix_nano
    assert child.end_time_unix_nano <= served.end_time_unix_nano
    assert served.trace_state == "a=1"


def test_odd_attributes_are_exported_as_text_and_none_left_out(receiver: Receiver) -> None:
    async def scenario() -> None:
        exporter = configure_otel(TracingSettings(enabled=True, traces_endpoint=receiver.url))
        assert exporter is not None
        values = {
            "big": 1 << 70, "none": None, "object": {"a": 1}, "mixed": [1, "a"], "list": [1, 2],
            "flag": True, "ratio": 0.5, "bytes": b"x",
        }  # fmt: skip
        Context("r").start_span("odd", values).close()
        await exporter.close()

    run(scenario())
    assert receiver.requests[0][0] == "/"
    ((_, _, span),) = receiver.spans()
    found = attributes(span)
    assert found["big"] == str(1 << 70)
    assert (found["object"], found["bytes"]) == ("{'a': 1}", "b'x'")
    assert [item.string_value for item in found["mixed"].values] == ["1", "a"]
    assert [item.int_value for item in found["list"].values] == [1, 2]
    assert (found["flag"], found["ratio"]) == (True, 0.5)
    assert "none" not in found


def test_a_ratio_of_nought_exports_nothing_that_begins_here(receiver: Receiver) -> None:
    async def scenario() -> None:
        exporter = configure_otel(
            TracingSettings(enabled=True, endpoint=receiver.url, sample_ratio=0.0)
        )
        assert exporter is not None
        Context("r").start_span("ours").close()
        context_from_headers({"traceparent": PARENT}, "r").start_span("theirs").close()
        await exporter.close()

    run(scenario())
    assert [span.name for _, _, span in receiver.spans()] == ["theirs"]


def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(
    receiver: Receiver, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    gate.clear()

    async def scenario() -> None:
        exporter = configure_otel(
            TracingSettings(enabled=True, endpoint=receiver.url, flush_timeout_s=0.1)
        )
        assert exporter is not None
        Context("r").start_span("late").close()
        await exporter.close()

    run(scenario())
    assert not receiver.requests
    assert "the last spans could not be exported in time" in caplog.messages


def test_closing_one_leaves_another_in_its_place(receiver: Receiver) -> None:
    async def scenario() -> None:
        settings = TracingSettings(enabled=True, endpoint=receiver.url)
        first, second = configure_otel(settings), configure_otel(settings)
        assert first is not None
        assert second is not None
        await first.close()
        assert sink() is second
        await second.close()

    run(scenario())


def test_nothing_is_exported_by_default() -> None:
    assert configure_otel(TracingSettings()) is None
    assert sink() is None


def test_a_protocol_we_do_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'") as caught:
        OtelExporter(TracingSettings(enabled=True, protocol="grpc"))
    assert "http/protobuf" in caught.value.hint


def test_without_the_extra_the_error_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from muster.config.tracing import TracingSettings\n"
        "from muster.errors import ConfigError\n"
        "from muster.runtime.otel import configure_otel\n"
        "assert configure_otel(TracingSettings()) is None\n"
        "try: configure_otel(TracingSettings(enabled=True))\n"
        "except ConfigError as error: print(error.diagnostics())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=30, check=True
    )
    assert b"OTEL_EXPORT_ENABLED is set, but opentelemetry" in done.stdout
    assert b"pip install 'muster-serve[otel]'" in done.stdout


def test_importing_the_module_does_not_import_the_sdk() -> None:
    script = "import sys, muster.runtime.otel; print('opentelemetry' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=30, check=True
    )
    assert done.stdout.strip() == b"False"


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.5, 1.0])
def test_about_the_share_asked_for_is_sampled_and_the_same_by_the_sdks_rule(ratio: float) -> None:
    sampling = pytest.importorskip(
        "opentelemetry.sdk.trace.sampling", reason="needs the extra otel"
    )
    sampler = sampling.TraceIdRatioBased(ratio)
    for number in range(500):
        trace_id = TraceContext.start().trace_id
        if number == 0:
            trace_id = trace_id[:16] + "f" * 16
        decided = sampler.should_sample(None, int(trace_id, 16), "x").decision.is_sampled()
        assert is_sampled(trace_id, ratio) == decided


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (TracingSettings(), "http://localhost:4318/v1/traces"),
        (TracingSettings(endpoint="http://c:1/otlp/"), "http://c:1/otlp/v1/traces"),
        (TracingSettings(endpoint="http://c:1", traces_endpoint="http://t/x"), "http://t/x"),
    ],
)
def test_where_spans_go(settings: TracingSettings, url: str) -> None:
    assert settings.url == url
