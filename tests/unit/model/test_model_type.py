import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import CardError
from muster.model.model_type import ModelType

ALL = (
    "Chat | Completions | Embedding | TensorBased | Prefill | Images | Audios | Videos | Realtime"
    " | Classify | Pooling | Rerank"
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        (" ", ""),
        ("Chat", "Chat"),
        ("Completions|Chat", "Chat | Completions"),
        (" Chat\t|\nCompletions ", "Chat | Completions"),
        ("Chat\xa0|\u2003Chat", "Chat"),
        (ALL, ALL),
        ("0xfff", ALL),
        ("0x1 | 0x+2", "Chat | Completions"),
        ("0x0", ""),
        ("Chat | 0x1000", "Chat | 0x1000"),
        ("0xF000", "0xf000"),
    ],
)
def test_the_text_form_is_canonical(text: str, canonical: str) -> None:
    assert str(ModelType.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("chat", "Chat |", "|Chat", "Chat||Rerank", "|", "Bogus", "Chat,Completions", "1", "all"),
        *("0X1", "0x", "0x10000", "0x_1", "0x-1", "0x 1", "\x1cChat", "0x\uff11"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(CardError):
        ModelType.parse(text)


@given(st.integers(0, 2**16 - 1))
def test_every_combination_reads_back(bits: int) -> None:
    assert ModelType.parse(str(ModelType(bits))) == bits


def test_flags_combine() -> None:
    both = ModelType.Chat | ModelType.Completions
    assert str(both) == "Chat | Completions"
    assert both.names == ("Chat", "Completions")
    assert ModelType.Chat in both
    assert not ModelType(0)
