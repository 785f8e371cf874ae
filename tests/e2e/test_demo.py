"""What the README promises first: the demo does all of it, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

DEEPSEEK = Path(__file__).resolve().parents[2].parent / "shared" / "models" / "deepseek"

pytestmark = pytest.mark.timeout(120)


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "demo", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )


def steps(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stdout + result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def demo_directories() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("muster-demo-*")}


def test_t1_the_demo_does_the_whole_job_and_leaves_nothing() -> None:
    before = demo_directories()
    told = steps(demo("--json"))
    assert [step["step"] for step in told] == [
        *["model", "register", "hosting", "frontend"],
        *["fetch"] * 5,
        *["listed", "chat", "stop", "stop", "clean"],
    ]
    by_name = {step["step"]: step for step in told}
    fetched = {step["file"] for step in told if step["step"] == "fetch"}
    assert fetched == set(by_name["model"]["files"])
    assert all("/v1/metadata/" in step["place"] for step in told if step["step"] == "fetch")
    assert by_name["chat"]["usage"]["completion_tokens"] == 48
    assert len(by_name["chat"]["text"].split()) > 10
    assert demo_directories() <= before


def test_the_demo_is_legible_without_json() -> None:
    result = demo()
    assert result.returncode == 0, result.stderr
    for words in (
        "card",
        "tokenizer.json",
        "verified",
        "GET /v1/models",
        "[DONE]",
        "registry empty",
    ):
        assert words in result.stdout
    assert "\x1b[" not in result.stdout  # no colours into a pipe


@pytest.mark.skipif(not DEEPSEEK.is_dir(), reason="../shared/models/deepseek is not here")
def test_the_demo_takes_a_real_model() -> None:
    told = steps(demo("--json", "--model-path", str(DEEPSEEK)))
    sizes = {step["file"]: step["bytes"] for step in told if step["step"] == "fetch"}
    assert sizes["tokenizer.json"] == (DEEPSEEK / "tokenizer.json").stat().st_size
    assert told[-1]["step"] == "clean"


def test_a_directory_that_is_no_model_fails_with_the_reason(tmp_path: Path) -> None:
    result = demo("--model-path", str(tmp_path))
    assert result.returncode == 1
    assert "unable to extract config.json" in result.stderr
    assert "Traceback" not in result.stderr
