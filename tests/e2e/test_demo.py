"""What the README promises first: the demo does all of it, and says so."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from muster.cli.demo_model import write_demo_model

DEEPSEEK = Path(__file__).resolve().parents[2].parent / "shared" / "models" / "deepseek"

pytestmark = pytest.mark.timeout(120)


COMMAND = [sys.executable, "-m", "muster.cli.main", "demo"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """A bare environment; temporary directories are made in ``tmp_path``."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TMPDIR": str(tmp_path)} | more


def demo(tmp_path: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env=environment(tmp_path, **more),
    )


def steps(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stdout + result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def listens(url: str) -> bool:
    """Whether anybody still listens at ``url``."""
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_t1_the_demo_does_the_whole_job_and_leaves_nothing(tmp_path: Path) -> None:
    told = steps(demo(tmp_path, "--json"))
    assert [step["step"] for step in told] == [
        *["model", "register", "hosting", "frontend"],
        *["fetch"] * 5,
        *["listed", "chat", "stop", "stop", "clean"],
    ]
    by_name = {step["step"]: step for step in told}
    fetched = {step["file"] for step in told if step["step"] == "fetch"}
    assert fetched == set(by_name["model"]["files"])
    metadata = by_name["hosting"]["url"] + "/v1/metadata/dynamo/backend/generate/demo_tiny-town/"
    for step in told:
        if step["step"] == "fetch":
            assert step["place"].startswith(metadata)
            assert step["verified"]
            assert len(step["digest"]) == len("blake3:") + 64
    assert by_name["chat"]["usage"]["completion_tokens"] == 48
    assert len(by_name["chat"]["text"].split()) > 10
    assert by_name["clean"]["directory"].startswith(str(tmp_path))
    assert [*tmp_path.iterdir()] == []
    assert not any(listens(by_name[step]["url"]) for step in ("hosting", "frontend"))


def test_the_demo_is_legible_without_json(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result.returncode == 0, result.stderr
    for words in (
        "mdcsum",
        "tokenizer.json",
        "verified",
        "/_base/tokenizer.json",
        "GET /v1/models",
        "[DONE]",
        "registry empty",
    ):
        assert words in result.stdout
    assert "\x1b[" not in result.stdout  # no colours into a pipe


@pytest.mark.skipif(not DEEPSEEK.is_dir(), reason="../shared/models/deepseek is not here")
def test_the_demo_takes_a_real_model(tmp_path: Path) -> None:
    told = steps(demo(tmp_path, "--json", "--model-path", str(DEEPSEEK)))
    sizes = {step["file"]: step["bytes"] for step in told if step["step"] == "fetch"}
    assert sizes["tokenizer.json"] == (DEEPSEEK / "tokenizer.json").stat().st_size
    assert told[-1]["step"] == "clean"


def test_a_directory_that_is_no_model_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = demo(tmp_path, "--model-path", str(tmp_path / "empty"))
    assert result.returncode == 1
    assert "the worker ended with exit code 1 before registering" in result.stderr
    assert "its log ends:" in result.stderr
    assert "unable to extract config.json" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_model_with_equal_files_is_shown_in_full(tmp_path: Path) -> None:
    write_demo_model(tmp_path / "model")
    for name in ("added_tokens.json", "preprocessor_config.json", "processor_config.json"):
        (tmp_path / "model" / name).write_text("{}")
    told = steps(demo(tmp_path, "--json", "--model-path", str(tmp_path / "model")))
    fetched = sorted(step["file"] for step in told if step["step"] == "fetch")
    assert fetched == sorted(path.name for path in (tmp_path / "model").iterdir())


def test_a_proxy_in_the_environment_does_not_matter(tmp_path: Path) -> None:
    steps(
        demo(tmp_path, "--json", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    )


@pytest.mark.parametrize(
    ("number", "last"),
    [
        (signal.SIGTERM, "model"),
        (signal.SIGTERM, "hosting"),
        (signal.SIGTERM, "frontend"),
        (signal.SIGINT, "frontend"),
        (signal.SIGHUP, "frontend"),
    ],
)
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, last: str) -> None:
    # Whoever runs the tests may have them ignore the signal, as a shell does in the background.
    code = (
        f"import signal, sys; signal.signal({number:d}, signal.SIG_DFL); "
        "from muster.cli.main import main; sys.exit(main(['demo', '--json']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, PYTHONUNBUFFERED="1"),
    ) as process:
        assert process.stdout is not None
        urls = []
        for line in process.stdout:
            step = json.loads(line)
            urls += [step["url"]] if "url" in step else []
            if step["step"] == last:
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [*tmp_path.iterdir()] == []
    assert not any(listens(url) for url in urls)
