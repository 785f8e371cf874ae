"""The file of keys, and finding their holders."""

from __future__ import annotations

import pytest

from muster.errors import ConfigError
from muster.frontend.guard.keys import Holder, Limits, key_line, new_key, parse_keys


def test_a_new_key_is_found_by_the_line_that_was_made_for_it() -> None:
    key, other = new_key(), new_key()
    ring = parse_keys(f"# people\n\n{key_line('alice', key)}  # till May\n", source="keys")
    assert ring.find(key) == Holder(name="alice")
    assert ring.find(other) is None
    assert ring.find("") is None
    assert ring.find(key[:-1]) is None
    assert key not in key_line("alice", key)
    assert len(key) == 46


def test_options_are_the_holders_limits() -> None:
    key = new_key()
    line = f"{key_line('ops', key)} admin requests_per_minute=60 tokens_per_minute=9 concurrent=2"
    holder = parse_keys(line + "\n", source="keys").find(key)
    limits = Limits(requests_per_minute=60, tokens_per_minute=9, concurrent=2)
    assert holder == Holder(name="ops", admin=True, limits=limits)
    assert holder.limits
    assert not Holder(name="free").limits


def test_a_key_can_be_replaced_while_the_old_one_works() -> None:
    old, new = new_key(), new_key()
    text = "".join(f"{key_line('alice', key)} concurrent=2\n" for key in (old, new))
    ring = parse_keys(text, source="keys")
    assert ring.find(old) == ring.find(new)
    assert ring.names == {"alice"}
    assert len(ring) == 2


DIGEST = "blake3:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alice\n", "line 1: a name and a digest are needed"),
        (f"\nal/ice {DIGEST}\n", "line 2: the name"),
        ("alice mk-secret\n", "is it the key itself"),
        (f"alice {DIGEST.upper()}\n", "is no digest"),
        (f"alice {DIGEST} concurrent=0\n", "must be a positive number"),
        (f"alice {DIGEST} concurrent=x\n", "must be a positive number"),
        (f"alice {DIGEST} concurrent=1 concurrent=1\n", "given twice"),
        (f"alice {DIGEST} speed=1\n", "known are admin, concurrent=N"),
        (f"alice {DIGEST}\nbob {DIGEST}\n", "line 2: the same key"),
        (f"alice {DIGEST}\nalice {DIGEST[:-1]}b admin\n", "line 2: alice has other options"),
        (f"alice {DIGEST}", "half written"),
    ],
)
def test_a_line_that_makes_no_sense_is_named_but_not_shown(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text, source="keys")
    assert said in caught.value.diagnostics()
    assert "mk-secret" not in caught.value.diagnostics()
    assert "0a0a" not in caught.value.diagnostics()


def test_a_name_the_file_could_not_hold_gets_no_line() -> None:
    with pytest.raises(ConfigError, match="cannot name a key"):
        key_line("al ice", new_key())
