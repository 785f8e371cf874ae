"""The supervisor of a frontend's processes, over processes that do what no frontend should."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import sys
import urllib.request
from pathlib import Path

import pytest

from muster.testing.certificates import CertificateAuthority
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

SUPERVISOR = """
import asyncio, dataclasses, logging, sys
from muster.config.settings import Settings
from muster.frontend.processes.supervisor import supervise

logging.basicConfig(level="INFO", format="%(message)s %(facts)s")
settings = Settings.load(
    flags={"processes.count": 2, "http.host": "127.0.0.1", "http.port": 0}, environ={}
)
ready = lambda port, admin_port: print("all listen", flush=True)
try:
    asyncio.run(supervise(settings, COMMAND, ready, silent_s=5))
except Exception as error:
    sys.exit(f"gave up: {error}")
"""

SPEAKING = """
import os, signal, socket, sys, time
from muster.frontend.processes.messages import Ready, read_frame, to_frame
import msgspec

connection = socket.socket(fileno=int(sys.argv[1]))
read_frame(connection)
say = lambda message: connection.sendall(to_frame(msgspec.msgpack.encode(message)))
"""


def supervisor(site: Site, command: list[str]) -> Process:
    return site.script(SUPERVISOR.replace("COMMAND", repr(command)), role="supervisor")


def children_of(process: Process) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def kill_all(process: Process) -> None:
    """A process that is stopped does not see that its supervisor is gone."""
    children = children_of(process)
    process.kill()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_text(process: Process, text: str, times: int = 1) -> None:
    def is_there() -> bool:
        assert process.is_running(), process.text()[-3000:]
        return process.text().count(text) >= times

    wait_until(is_there, text)


def test_a_process_that_hangs_before_it_says_anything_is_ended_and_started_again(
    site: Site,
) -> None:
    hanging = "import time; time.sleep(1000)"
    process = supervisor(site, [sys.executable, "-c", hanging])
    wait_for_text(process, "it has been silent for 5 s", times=2)
    wait_for_text(process, "a process has ended and is started again", times=2)
    assert "SIGKILL" in process.text()
    assert process.stop() == 0
    assert "all listen" not in process.text()


def test_a_process_that_stops_for_long_is_ended_and_its_number_lives_on(site: Site) -> None:
    code = SPEAKING + "say(Ready(1, 0))\nos.kill(os.getpid(), signal.SIGSTOP)"
    process = supervisor(site, [sys.executable, "-c", code])
    wait_for_text(process, "all listen")
    wait_for_text(process, "it has been silent for 5 s", times=2)
    wait_for_text(process, "a process listens", times=4)
    kill_all(process)


def test_what_cannot_be_started_later_is_tried_again(site: Site, tmp_path: Path) -> None:
    program, aside = tmp_path / "program", tmp_path / "aside"
    program.write_text(f"#!{sys.executable}\n{SPEAKING}say(Ready(1, 0))\nread_frame(connection)\n")
    program.chmod(0o755)
    process = supervisor(site, [str(program)])
    wait_for_text(process, "all listen")
    program.rename(aside)
    for pid in children_of(process):
        os.kill(pid, signal.SIGKILL)
    wait_for_text(process, "a process cannot be started", times=2)
    aside.rename(program)
    wait_for_text(process, "a process listens", times=4)
    kill_all(process)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nowhere.at.all", "a process could not start: exit code 1"),
        ("raise SystemExit(7)", "a process could not start: exit code 7"),
    ],
)
def test_what_keeps_processes_from_starting_ends_all(site: Site, code: str, said: str) -> None:
    process = supervisor(site, [sys.executable, "-c", code])
    assert process.wait(60) == 1
    assert process.text().count("gave up: ") == 1
    assert said in process.text()


def test_a_program_that_is_missing_is_an_error(site: Site, tmp_path: Path) -> None:
    process = supervisor(site, [str(tmp_path / "nothing")])
    assert process.wait(60) == 1
    assert "a process cannot be started" in process.text()


def test_a_process_of_another_version_ends_itself_alone(site: Site, tmp_path: Path) -> None:
    once = tmp_path / "once"
    code = (
        SPEAKING
        + f"""
say(Ready(1, 0))
time.sleep(1)
try:
    os.close(os.open({str(once)!r}, os.O_CREAT | os.O_EXCL))
    say({{"type": "Unheard"}})
except FileExistsError:
    pass
read_frame(connection)
"""
    )
    process = supervisor(site, [sys.executable, "-c", code])
    wait_for_text(process, "it does not speak as its supervisor does")
    wait_for_text(process, "a process listens", times=3)
    kill_all(process)


def test_all_processes_speak_tls(site: Site, model: Path, tmp_path: Path) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "0")
    authority = CertificateAuthority(tmp_path)
    certificate = authority.sign("server")
    api = site.start_frontend(
        "--processes", "2",
        "--tls-cert-path", str(certificate.path),
        "--tls-key-path", str(certificate.key),
        DYN_LOGGING_JSONL="1",
    )  # fmt: skip
    wait_for_text(api.process, "listening on https://127.0.0.1")
    url = api.url.replace("http:", "https:")
    trusting = ssl.create_default_context(cafile=str(authority.path))

    def listed() -> bool:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10, context=trusting) as reply:
            return b'"tiny"' in reply.read()

    wait_until(lambda: all(listed() for _ in range(10)), "both list it")
    asked = {
        line.partition('"process":')[2][:1]
        for line in api.process.text().splitlines()
        if '"message":"request"' in line
    }
    assert asked == {"0", "1"}
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{url}/v1/models", timeout=10, context=ssl.create_default_context())
    assert api.process.stop() == 0
