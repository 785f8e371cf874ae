"""The command line as a person uses it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muster.model.card import ModelDeploymentCard
from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


def muster(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | environment,
    )


def test_help_lists_the_commands() -> None:
    result = muster("--help")
    assert result.returncode == 0
    for name in ("worker", "frontend", "demo", "ls", "card"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["nonsense"], {}, "No such command 'nonsense'"),
        (["worker"], {}, "--model-path"),
        (["frontend", "--http-port", "99999"], {}, "must be between -1 and 65535"),
        (["frontend"], {"DYN_HTTP_PORT": "many"}, "DYN_HTTP_PORT is 'many'"),
        (["frontend", "--request-plane", "http"], {}, "must be one of tcp"),
        (["worker", "--model-path", ".", "--endpoint-types", "chat,song"], {}, "'song'"),
        (["worker", "--model-path", ".", "--endpoint-types", "chat,embeddings"], {}, "'mock'"),
        (
            ["worker", "--model-path", ".", "--endpoint-types", "embeddings", "--engine", "echo"],
            {},
            "'echo'",
        ),
    ],
)
def test_wrong_usage_and_settings_exit_with_2_and_say_what(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    result = muster(*arguments, **environment)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_card_card_is_the_card_itself(model: Path) -> None:
    result = muster("card", str(model), "--name", "acme/tiny", "--card")
    assert result.returncode == 0
    card = ModelDeploymentCard.from_json_str(result.stdout)
    assert (card.display_name, card.slug, card.context_length) == ("acme/tiny", "acme_tiny", 2048)


def test_card_shows_files_digest_and_what_stays_and_why(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"weights")
    (model / ".hidden").write_text("x")
    (model / "merges (old).txt").write_text("x")
    result = muster("card", str(model))
    assert result.returncode == 0
    for words in ("mdcsum", "tokenizer.json", "2048 tokens", "merges (old).txt"):
        assert words in result.stdout
    assert "'model.safetensors'" in result.stdout
    assert "model weights" in result.stdout
    assert "its name begins with a dot" in result.stdout


def test_card_of_no_model_exits_with_1_and_a_hint(tmp_path: Path) -> None:
    result = muster("card", str(tmp_path))
    assert result.returncode == 1
    assert "unable to extract config.json" in result.stderr
    assert "hint: " in result.stderr


def test_ls_shows_what_is_served_and_what_is_not_and_why(site: Site, model: Path) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "0")
    frontend = site.frontend("--fetch-allow", "127.0.0.1")
    frontend.wait_for_model("tiny")
    (name, record), *_ = site.records("v1/mdc").items()
    # Bytes nobody has: what is in the cache would be served wherever its card says it is.
    record["card_json"]["model_info"]["hf_config_json"]["checksum"] = "blake3:" + "0" * 64
    broken = json.dumps(record).replace("/v1/metadata/", "/v1/nowhere/").replace('"tiny"', '"lost"')
    broken = broken.replace('"backend"', '"other"')
    path = site.registry / "v1" / "mdc" / name.replace("backend", "other")
    path.write_text(broken)

    def look() -> dict[str, object]:
        result = muster("ls", "--json", "--frontend", frontend.url, DYN_FILE_KV=str(site.registry))
        assert result.returncode == 0, result.stderr
        found: dict[str, object] = json.loads(result.stdout)
        return found

    def reason() -> str:
        path.touch()  # somebody keeps the record alive
        states = look()["frontend"]["models"]  # type: ignore[index]
        return next((s["message"] for s in states if s["state"] == "retrying"), "")

    assert "404 Not Found" in wait_until(reason, "the reason is listed", timeout_s=30)
    health = frontend.get("/health")
    assert health["status"] == "degraded"
    assert "404 Not Found" in health["message"]
    path.touch()
    table = muster("ls", "--frontend", frontend.url, DYN_FILE_KV=str(site.registry))
    assert table.returncode == 0
    lines = table.stdout.splitlines()
    assert lines[0].split() == [
        "MODEL",
        "ENDPOINT",
        "INSTANCE",
        "VIA",
        "MDCSUM",
        "CONTEXT",
        "FILES",
        "STATE",
    ]
    assert any(line.startswith("tiny ") and line.endswith("ready") for line in lines)
    assert any(line.startswith("lost ") and not line.endswith("ready") for line in lines)
    assert any("lost is " in line and "404 Not Found" in line for line in lines)


def test_ls_without_a_frontend_shows_the_registry_and_says_so(site: Site, model: Path) -> None:
    site.worker(model, "tiny")
    url = "http://127.0.0.1:1"
    result = muster("ls", "--frontend", url, DYN_FILE_KV=str(site.registry))
    assert result.returncode == 0
    assert "tiny" in result.stdout
    assert f"no frontend answers at {url}" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_both_commands_in_order(
    site: Site, model: Path, number: signal.Signals
) -> None:
    worker = site.worker(model, "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    for process in (worker, frontend.process):
        began = time.monotonic()
        process.signal(number)
        assert process.wait() == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in process.text()
    assert site.records("v1/mdc") == site.records("v1/instances") == {}


def test_two_frontends_cannot_have_one_port(site: Site) -> None:
    first = site.frontend()
    port = first.url.rpartition(":")[2]
    second = site.start(
        "second",
        [
            *[sys.executable, "-m", "muster.cli.main", "frontend"],
            *["--http-host", "127.0.0.1", "--http-port", port],
        ],
    )
    assert second.wait() == 2
    assert port in second.text()
    assert "Traceback" not in second.text()


def test_a_frontend_leaves_the_status_servers_port_to_the_worker(site: Site, model: Path) -> None:
    port = str(free_port())
    frontend = site.frontend(DYN_SYSTEM_PORT=port)
    site.worker(model, "tiny", DYN_SYSTEM_PORT=port)
    frontend.wait_for_model("tiny")
    assert "status server listens" not in frontend.process.text()
