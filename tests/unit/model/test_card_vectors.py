"""Cards with what Dynamo 1.6.1 made of them, from the folder beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest

from muster.errors import CardError
from muster.model.card import ModelDeploymentCard

VECTORS = Path(__file__).resolve().parents[3] / ".." / "shared" / "vectors" / "cards.jsonl"


def _vectors() -> list[Any]:
    if not VECTORS.exists():
        skip = pytest.mark.skip(reason="the shared vectors are not beside this checkout")
        return [pytest.param({}, marks=skip, id="absent")]
    lines = VECTORS.read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    return [pytest.param(case, id=f"{n} {case['name']}") for n, case in enumerate(cases)]


@pytest.mark.parametrize("case", _vectors())
def test_a_card_gets_the_verdict_digest_and_text_it_got_from_dynamo(case: dict[str, Any]) -> None:
    text = json.dumps(case["card"])
    if not case["accepted"]:
        with pytest.raises(CardError):
            ModelDeploymentCard.from_json_str(text)
        return
    card = ModelDeploymentCard.from_json_str(text)
    assert card.mdcsum() == case["mdcsum"]
    # as texts, so that the order of keys and the spelling of numbers count
    assert json.dumps(json.loads(card.to_json_str())) == json.dumps(case["rewritten"])
