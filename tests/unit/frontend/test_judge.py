from __future__ import annotations

import pytest

from muster.frontend.health import judge
from muster.frontend.model_table import ModelStatus

BAD = ModelStatus(model="bad", state="retrying", reason="source", message="404")


@pytest.mark.parametrize(
    ("served", "unserved", "required", "trouble", "status"),
    [
        ([], [], [], "", "healthy"),
        (["a"], [], [], "", "healthy"),
        (["a"], [BAD], [], "", "degraded"),
        ([], [BAD], [], "", "unavailable"),
        (["a"], [], ["a"], "", "healthy"),
        (["a"], [], ["b"], "", "unavailable"),
        ([], [], ["b"], "", "unavailable"),
        (["a"], [], [], "the registry is gone", "degraded"),
        ([], [], [], "the registry is gone", "unavailable"),
    ],
)
def test_the_word_of_health(
    served: list[str],
    unserved: list[ModelStatus],
    required: list[str],
    trouble: str,
    status: str,
) -> None:
    verdict = judge(served, unserved, required, trouble)
    assert verdict.status == status
    assert bool(verdict.message) == (status != "healthy")


def test_every_reason_is_said() -> None:
    message = judge(["a"], [BAD], ["wanted"], "trouble").message
    for word in ("'wanted' is required", "trouble", "bad is retrying (source) 404"):
        assert word in message
