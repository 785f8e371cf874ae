"""``muster card`` beside what workers really publish."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_directory_exits_with_1_and_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = card(str(tmp_path / name))
    assert result.returncode == 1
    assert str(tmp_path / name) in result.stderr
    assert "hint: " in result.stderr
    assert result.stdout == ""
