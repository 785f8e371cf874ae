"""The README's own code, run as it stands but for its paths and ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")

pytestmark = pytest.mark.timeout(120)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def test_the_python_examples_work_together(site: Site, tmp_path: Path) -> None:
    client, worker = blocks("python")
    model = tmp_path / "model"
    model.mkdir()
    write_tiny_model(model)
    site.script(worker.replace("/path/to/model", str(model)), role="worker", DYN_SYSTEM_PORT="0")
    frontend = site.frontend()
    frontend.wait_for_model("acme/echo")
    script = client.replace("http://127.0.0.1:8000", frontend.url).replace(
        "acme/small", "acme/echo"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert "Hello?" in found.stdout  # the echo of the rendered chat


def test_the_commands_exist_with_the_options_shown() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    shown = [line.split("#")[0].split() for line in lines if line.startswith("muster ")]
    assert {words[1] for words in shown} == {
        "worker", "frontend", "ls", "model", "card", "verify", "pack", "cache"
    }  # fmt: skip
    for words in shown:
        options = {word for word in words if word.startswith("--")}
        help_text = subprocess.run(
            [sys.executable, "-m", "muster.cli.main", *_path(words), "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(option in help_text for option in options)


def _path(words: list[str]) -> list[str]:
    """A command's name, with its group's before it."""
    return words[1:3] if words[1] in ("model", "cache") else words[1:2]


def test_the_commands_without_a_server_do_what_the_readme_says(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_tiny_model(model)
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    shown = [line.split("#")[0].replace("/path/to/model", str(model)).split() for line in lines]
    offline = [words for words in shown if words[:1] == ["muster"] and words[1] in
               ("card", "verify", "pack", "cache")]  # fmt: skip
    assert len(offline) == 4
    for words in offline:
        result = subprocess.run(
            [sys.executable, "-m", "muster.cli.main", *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            timeout=60,
        )
        assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / ".cache" / "muster" / "blobs").iterdir())) == len(
        list(model.iterdir())
    )


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
