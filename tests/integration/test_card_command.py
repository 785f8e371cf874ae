"""``muster card`` beside what workers really publish."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from muster.model.card import ModelDeploymentCard
from muster.testing.site import Site

pytestmark = pytest.mark.timeout(120)


def card(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "card", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_is_the_card_a_worker_publishes(site: Site, model: Path) -> None:
    (model / "added_tokens.json").write_text("{}")
    site.worker(model, "tiny", DYN_SELF_HOST_METADATA="0", role="by-path")
    (record,) = site.records("v1/mdc").values()
    assert json.loads(card(str(model), "--name", "tiny", "--card").stdout) == record["card_json"]

    site.worker(model, "tiny", "--namespace", "hosted", role="hosted")
    published = [
        ModelDeploymentCard.from_json_str(json.dumps(record["card_json"])).mdcsum()
        for record in site.records("v1/mdc").values()
    ]
    shown = card(str(model), "--name", "tiny").stdout
    assert len(set(published)) == 2  # a hosted card has the extra files too
    assert all(digest in shown for digest in published)


def test_json_says_everything_a_program_may_want(model: Path) -> None:
    (model / "added_tokens.json").write_text("{}")
    (model / "README.md").touch()
    (model / "model.safetensors").touch()
    told = json.loads(card(str(model), "--name", "tiny", "--json").stdout)
    found = ModelDeploymentCard.from_json_str(json.dumps(told["card"]))
    assert found.mdcsum() == told["mdcsum"] != told["mdcsum_hosted"]
    assert json.loads(card(str(model), "--name", "tiny", "--card").stdout) == told["card"]
    assert told["context_length"] == 2048
    assert told["template"] == "tokenizer_config.json"
    assert [(file["role"], file["name"]) for file in told["files"]] == [
        ("model_info", "config.json"),
        ("tokenizer", "tokenizer.json"),
        ("prompt_formatter", "tokenizer_config.json"),
        ("gen_config", "generation_config.json"),
        ("extra", "added_tokens.json"),
    ]
    assert told["left_out"] == [
        {"name": "README.md", "reason": "the read-me file"},
        {"name": "model.safetensors", "reason": "model weights"},
    ]


def test_identity_is_that_of_the_files_wherever_they_lie(model: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model, elsewhere)
    one, two = (json.loads(card(str(each), "--json").stdout) for each in (model, elsewhere))
    assert one["identity"] == two["identity"]
    assert one["mdcsum"] != two["mdcsum"]  # it knows the path
    (elsewhere / "config.json").write_text('{"max_position_embeddings": 1}')
    assert json.loads(card(str(elsewhere), "--json").stdout)["identity"] != one["identity"]


def test_where_the_template_is_is_shown(model: Path, tmp_path: Path) -> None:
    def template(*options: str) -> str | None:
        found: str | None = json.loads(card(str(model), "--json", *options).stdout)["template"]
        return found

    (model / "tokenizer_config.json").write_text("{}")
    assert template() is None
    assert "none: completions only" in card(str(model)).stdout
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert template() == "chat_template.jinja"
    custom = tmp_path / "mine.jinja"
    custom.write_text("{{ messages }}")
    assert template("--custom-jinja-template", str(custom)) == "mine.jinja"


def test_a_name_cannot_act_upon_the_terminal(model: Path) -> None:
    (model / "\x1b[2J.txt").touch()
    shown = card(str(model)).stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J.txt" in shown


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_directory_exits_with_1_and_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = card(str(tmp_path / name))
    assert result.returncode == 1
    assert str(tmp_path / name) in result.stderr
    assert "hint: " in result.stderr
    assert result.stdout == ""
