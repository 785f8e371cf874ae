"""``muster keys``."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from muster.cli.main import cli
from muster.frontend.guard.keys import Holder, Limits, parse_keys


def test_a_new_keys_line_goes_to_the_file_and_the_key_to_a_person() -> None:
    words = ["keys", "new", "alice", "--admin", "--concurrent", "3", "--tokens-per-minute", "9"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0
    key = result.stderr.split()[-1]
    limits = Limits(concurrent=3, tokens_per_minute=9)
    ring = parse_keys(result.stdout, source="keys")
    assert ring.find(key) == Holder(name="alice", admin=True, limits=limits)
    assert key not in result.stdout


@pytest.mark.parametrize("words", [["a b"], ["alice", "--concurrent", "0"], []])
def test_what_the_file_could_not_hold_is_wrong_usage(words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["keys", "new", *words])
    assert result.exit_code != 0
    assert result.stdout == ""
