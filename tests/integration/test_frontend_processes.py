"""``muster frontend --processes``: several real processes that look like one frontend."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from muster.frontend.guard.keys import key_line, new_key
from muster.testing.api import Api
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

FAST = ("--speedup-ratio", "0")
COUNT = 3


def metrics(api: Api) -> dict[str, float]:
    """Samples by name and labels, as the text has them."""
    with urllib.request.urlopen(f"{api.url}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            found[key] = float(value)
    return found


def total(samples: dict[str, float], name: str) -> float:
    return sum(value for key, value in samples.items() if key.partition("{")[0] == name)


def processes(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/muster/models").get("processes", [])
    return found


def pids(api: Api) -> dict[int, int]:
    return {each["process"]: each["pid"] for each in processes(api)}


def started(site: Site, *options: str, count: int = COUNT, model: str = "tiny", **env: str) -> Api:
    """A frontend whose processes all serve the model."""
    api = site.start_frontend("--processes", str(count), *options, **env)
    wait_for_text(api, "listening on")
    wait_until(lambda: len(processes(api)) == count, "all are known")
    if model:
        wait_until(
            lambda: (
                all(each["status"] == "healthy" for each in processes(api))
                and model in api.models()
            ),
            "all serve it",
        )
    return api


def wait_for_text(api: Api, text: str) -> None:
    def is_there() -> bool:
        assert api.process.is_running(), api.process.text()[-3000:]
        return text in api.process.text()

    wait_until(is_there, text)


@pytest.fixture
def worker(site: Site, model: Path) -> Any:
    return site.worker(model, "tiny", *FAST)


@pytest.mark.usefixtures("worker")
def test_requests_are_spread_and_every_process_tells_the_metrics_of_all(site: Site) -> None:
    api = started(site, DYN_LOGGING_JSONL="1", DYN_LOG="info,muster.frontend=debug")
    for _ in range(40):
        api.chat("tiny")
    name = "dynamo_frontend_requests_total"
    assert [total(metrics(api), name) for _ in range(8)] == [40] * 8
    samples = metrics(api)
    assert total(samples, "dynamo_frontend_request_duration_seconds_count") == 40
    assert total(samples, "dynamo_frontend_output_tokens_total") == 40 * 16
    assert samples['dynamo_frontend_model_ready{model="tiny"}'] == 1
    assert [samples[f'muster_process_up{{process="{each}"}}'] for each in range(COUNT)] == [1] * 3
    lines = [json.loads(line) for line in api.process.text().splitlines() if line[:1] == "{"]
    served = {
        line["process"]
        for line in lines
        if line["message"] == "request ended" and line["path"] == "/v1/chat/completions"
    }
    assert len(served) > 1
    assert {line["process"] for line in lines if "process" in line} == {0, 1, 2}
    assert api.process.text().count("listening on") == 1
    assert api.process.stop() == 0


@pytest.mark.usefixtures("worker")
def test_a_process_that_is_killed_is_started_again_and_its_counts_stay(site: Site) -> None:
    api = started(site)
    failures: list[str] = []
    answers: list[int] = []
    ends = threading.Event()

    def ask() -> None:
        while not ends.is_set():
            try:
                api.chat("tiny")
                answers.append(1)
            except urllib.error.HTTPError as error:
                failures.append(f"{error.code} {error.read()!r}")
            except OSError:
                pass  # its connection was at the process that was killed

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 20, "load")
        name = "dynamo_frontend_requests_total"
        before = pids(api)
        shown = total(metrics(api), name)
        os.kill(before[1], signal.SIGKILL)
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 20, "the others answer")

        def is_back() -> bool:
            nonlocal shown
            present = total(metrics(api), name)
            assert present >= shown
            shown = present
            return pids(api).get(1) not in (None, before[1])

        wait_until(is_back, "it is back")
        wait_until(
            lambda: metrics(api)['muster_process_restarts_total{process="1"}'] == 1, "counted"
        )
        wait_until(lambda: all(each["status"] == "healthy" for each in processes(api)), "healthy")
        assert {number: pid for number, pid in pids(api).items() if number != 1} == {
            number: pid for number, pid in before.items() if number != 1
        }
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert "SIGKILL" in api.process.text()
    assert api.process.stop() == 0


@pytest.mark.usefixtures("worker")
def test_a_process_asked_to_end_alone_finishes_and_the_others_take_its_connections(
    site: Site,
) -> None:
    api = started(site)
    before = pids(api)
    resets = 0
    os.kill(before[2], signal.SIGTERM)
    for _ in range(30):
        try:
            api.chat("tiny")
        except urllib.error.HTTPError:
            raise
        except OSError:  # Linux resets those that were connected, but not accepted yet
            resets += 1
    assert resets <= 1
    wait_until(lambda: pids(api).get(2) not in (None, before[2]), "it is back")
    assert api.process.stop() == 0


def test_streams_finish_when_all_drain_and_new_requests_are_refused(
    site: Site, model: Path
) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "1")
    api = started(site)
    streams = [api.stream("tiny", max_tokens=200) for _ in range(6)]
    heads = [next(stream) for stream in streams]
    assert len(heads) == 6
    api.process.signal(signal.SIGTERM)
    wait_until(lambda: api.get("/health").get("stage") == "draining", "it drains")
    for stream in streams:
        assert [*stream][-1] == "[DONE]"
    assert api.process.wait() == 0


def test_a_second_signal_does_not_wait(site: Site, model: Path) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "0.05")
    api = started(site)
    streams = [api.stream("tiny", max_tokens=500) for _ in range(4)]
    for stream in streams:
        next(stream)
    own = pids(api)
    api.process.signal(signal.SIGTERM)
    wait_until(lambda: api.get("/health").get("stage") == "draining", "it drains")
    api.process.signal(signal.SIGTERM)
    assert api.process.wait() == -signal.SIGTERM
    wait_until(lambda: not any(is_alive(pid) for pid in own.values()), "all are gone")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_processes_end_with_their_supervisor(site: Site) -> None:
    api = started(site, model="")
    own = pids(api)
    assert len(own) == COUNT
    api.process.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in own.values()), "all are gone")


def test_a_port_in_use_is_said_once_and_the_exit_code_is_2(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        api = site.start_frontend("--processes", "2", "--http-port", str(port))
        assert api.process.wait(60) == 2
    text = api.process.text()
    assert text.count("cannot listen on 127.0.0.1") == 1
    assert "--http-port" in text


def test_two_frontends_do_not_share_a_port_unasked(site: Site) -> None:
    first = started(site, model="")
    port = first.url.rpartition(":")[2]
    second = site.start_frontend("--processes", "2", "--http-port", port, role="second")
    assert second.process.wait(60) == 2
    single = site.start_frontend("--http-port", port, role="single")
    assert single.process.wait(60) == 2


def test_what_keeps_a_process_from_starting_is_said_once(site: Site, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice nonsense\n")
    api = site.start_frontend("--processes", "3", "--api-keys-file", str(keys))
    assert api.process.wait(60) == 2
    assert api.process.text().count("muster: ") == 1
    assert str(keys) in api.process.text()


@pytest.mark.usefixtures("worker")
def test_busy_thresholds_reach_all_processes_and_those_that_come_later(site: Site) -> None:
    api = started(site)
    body = json.dumps({"model": "tiny", "active_prefill_tokens_threshold": 12345}).encode()
    request = urllib.request.Request(f"{api.url}/busy_threshold", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert json.load(reply)["active_prefill_tokens_threshold"] == 12345

    def thresholds() -> list[Any]:
        return [
            each["active_prefill_tokens_threshold"]
            for each in api.get("/busy_threshold")["thresholds"]
        ]

    assert [thresholds() for _ in range(12)] == [[12345]] * 12
    before = pids(api)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: pids(api).get(0) not in (None, before[0]), "it is back")
    wait_until(lambda: len(processes(api)) == COUNT, "all are known")
    assert [thresholds() for _ in range(12)] == [[12345]] * 12


@pytest.mark.usefixtures("worker")
def test_the_live_stream_of_any_process_shows_the_requests_of_all(site: Site) -> None:
    api = started(site)
    with urllib.request.urlopen(f"{api.url}/v1/muster/live", timeout=30) as stream:
        for _ in range(30):
            api.chat("tiny")
        seen, running = 0.0, 0
        deadline = time.monotonic() + 30
        for line in stream:
            assert time.monotonic() < deadline, seen
            if line.startswith(b"data: "):
                data = json.loads(line[6:])
                running = (data.get("frontend") or {}).get("processes", running)
                seconds = data.get("seconds", [])
                seen += sum(second[2] for second in seconds)
                if seen > 29:  # rates are per second of not quite one second
                    break
    assert seen > 29
    assert running == COUNT


@pytest.mark.usefixtures("worker")
def test_the_admin_port_is_shared_as_well(site: Site) -> None:
    api = site.start_frontend("--processes", "2", "--admin-port", "0")
    wait_for_text(api, "admin routes on")
    match = re.search(r"admin routes on http://127\.0\.0\.1:(\d+)", api.process.text())
    assert match is not None
    admin = Api(api.process, int(match[1]))
    wait_until(lambda: len(processes(admin)) == 2, "both are known")
    assert "error" in api.get("/v1/muster/models")
    assert api.process.stop() == 0


def test_a_process_alone_has_no_supervisor(site: Site) -> None:
    api = site.frontend("--processes", "1")
    assert "processes" not in api.get("/v1/muster/models")
    assert total(metrics(api), "muster_process_up") == 0
    assert api.process.stop() == 0


@pytest.mark.usefixtures("worker")
def test_the_limits_of_a_key_hold_for_all_processes_together(site: Site, tmp_path: Path) -> None:
    key = new_key()
    path = tmp_path / "keys"
    admin = new_key()
    path.write_text(
        f"{key_line('alice', key)} requests_per_minute=20\n{key_line('ops', admin)} admin\n"
    )
    api = site.start_frontend("--processes", "3", "--api-keys-file", str(path))
    wait_for_text(api, "listening on")

    def ask(path: str, key: str, body: Any = None) -> int:
        request = urllib.request.Request(
            api.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                reply.read()
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    statuses = [ask("/v1/chat/completions", key, {"model": "none"}) for _ in range(40)]
    assert statuses.count(429) >= 15  # a few come back while the test runs
    assert statuses[:20].count(429) == 0
    assert api.process.stop() == 0


def test_several_processes_ask_the_worker_for_each_file_once(
    site: Site, model: Path, tmp_path: Path
) -> None:
    site.worker(model, "tiny", *FAST, DYN_SYSTEM_PORT="0")
    before = served_files(site)
    api = started(site, "--cache-dir", str(tmp_path / "cache"), count=4)
    files = len(list(model.iterdir()))
    assert served_files(site) - before == files
    samples = metrics(api)
    assert samples['muster_files_total{outcome="verified"}'] == files
    assert samples['muster_files_total{outcome="cached"}'] == 3 * files
    assert samples["muster_fetched_bytes_total"] == sum(
        path.stat().st_size for path in model.iterdir()
    )


def served_files(site: Site) -> int:
    """How many files the worker's status server has sent."""
    (record,) = site.records("v1/mdc").values()
    place = record["card_json"]["tokenizer"]["hf_tokenizer_json"]["path"]
    address = urllib.parse.urlsplit(place).netloc
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        found = re.search(
            r'^muster_metadata_requests_total\{outcome="served"\} (\S+)',
            reply.read().decode(),
            re.MULTILINE,
        )
    return int(float(found[1])) if found else 0
