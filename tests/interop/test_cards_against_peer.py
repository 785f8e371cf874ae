"""Thousands of odd cards, each read by us and by a real ai-dynamo: same verdict, digest and text.

The cards are mutations of good ones (``muster.testing.card_mutation``), the same for a seed, so a
failure can be had again by its seed. Two things 1.6.1 does are not asked for: the order in which it
writes its unordered collections, which is random, and what becomes of hosts with characters younger
than its Unicode tables.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.testing.card_mutation import CardMutator
from muster.testing.card_oracle import CardOracle, Verdict
from muster.testing.rich_card import RICH_CARD

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "cards.jsonl"
UNORDERED = {
    *("runtime_data", "topology_domains", "taints", "allowed_media_domains", "parameters"),
}
MINIMAL: dict[str, Any] = {
    "display_name": "x",
    "slug": "x",
    "kv_cache_block_size": 0,
    "migration_limit": 0,
    "model_type": "",
    "model_input": "Text",
}


@pytest.fixture(scope="module")
def oracle(peer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CardOracle]:
    with CardOracle(peer / "bin" / "python", tmp_path_factory.mktemp("home")) as oracle:
        yield oracle


def ours(text: str) -> Verdict:
    try:
        card = ModelDeploymentCard.from_json_str(text)
    except CardError as error:
        return Verdict(error=error.message)
    return Verdict(text=card.to_json_str(), mdcsum=card.mdcsum())


def loaded(directory: Path, name: str) -> Verdict:
    try:
        card = ModelDeploymentCard.load(directory, name)
    except CardError as error:
        return Verdict(error=error.message)
    return Verdict(text=card.to_json_str(), mdcsum=card.mdcsum())


def canonical(text: str | None) -> Any:
    """Parsed JSON in which the order of keys and the spelling of numbers count, but for sets."""
    if text is None:
        return None

    def order(value: Any, *, free: bool) -> Any:
        if isinstance(value, tuple):
            if value[0] == "number":
                return value
            pairs = [(key, order(item, free=key in UNORDERED)) for key, item in value[1]]
            return ("object", sorted(pairs, key=repr) if free else pairs)
        if isinstance(value, list):
            items = [order(item, free=False) for item in value]
            return sorted(items, key=repr) if free else items
        return value

    parsed = json.loads(
        text,
        parse_float=lambda number: ("number", number),
        parse_int=lambda number: ("number", number),
        object_pairs_hook=lambda pairs: ("object", pairs),
    )
    return order(parsed, free=False)


def check(oracle: CardOracle, text: str) -> bool:
    """Compare the two readings of ``text``; says whether it was accepted."""
    theirs, mine = oracle.read(text), ours(text)
    assert mine.accepted == theirs.accepted, f"\nours: {mine}\ntheirs: {theirs}\ncard: {text}"
    assert canonical(mine.text) == canonical(theirs.text), f"card: {text}"
    assert mine.mdcsum == theirs.mdcsum, f"card: {text}"
    return theirs.accepted


def good_cards() -> list[dict[str, Any]]:
    cards = [RICH_CARD] * 30
    if VECTORS.exists():
        lines = VECTORS.read_text(encoding="utf-8").splitlines()
        cards += [json.loads(line)["card"] for line in lines]
    return cards


@pytest.mark.parametrize("seed", range(5))
def test_mutated_cards(oracle: CardOracle, seed: int) -> None:
    mutator = CardMutator(seed, good_cards())
    accepted = sum(check(oracle, text) for text in mutator.cards(800))
    assert 80 < accepted < 720, "the mutator no longer makes both kinds"


@pytest.mark.parametrize("seed", range(4))
def test_locations(oracle: CardOracle, seed: int) -> None:
    mutator = CardMutator(seed, [MINIMAL])
    checksum = "blake3:" + "0" * 64
    for _ in range(60):
        files = [{"path": mutator.url(), "checksum": checksum} for _ in range(20)]
        assert check(oracle, json.dumps(MINIMAL | {"extra_files": files}))


@pytest.mark.parametrize("seed", range(4))
def test_numbers(oracle: CardOracle, seed: int) -> None:
    """Spelled in ``user_data``, whose numbers may be any, and in a field of 32 bits."""
    source = random.Random(seed)
    for _ in range(40):
        numbers = ",".join(number(source) for _ in range(20))
        weight = f'{{"kv_transfer_preferred_weight":{number(source)}}}'
        check(
            oracle,
            json.dumps(MINIMAL)[:-1]
            + f',"user_data":[{numbers}],"runtime_config":{weight},"router_config":{{'
            + '"router_mode":"random","kv_router_config":{"router_ttl_secs":'
            + number(source).lstrip("-")
            + '},"load_threshold_config":{}}}',
        )


def number(source: random.Random) -> str:
    sign = source.choice(("", "-"))
    whole = source.choice(("0", str(source.randrange(1, 10 ** source.randint(1, 25)))))
    fraction = source.choice(("", f".{source.randrange(10 ** source.randint(1, 25))}"))
    exponent = source.choice(("", "", f"e{source.randint(-320, 270)}", f"E+{source.randint(0, 9)}"))
    return sign + whole + fraction + exponent


@pytest.mark.parametrize("name", RICH_CARD)
@pytest.mark.parametrize(
    "value",
    [
        *("null", "true", "0", "-1", "1.5", "4294967296", '""', '"x"', "[]", "{}", "[null]"),
        '{"a":null}',
    ],
)
def test_every_field_with_every_kind_of_value(oracle: CardOracle, name: str, value: str) -> None:
    text = json.dumps({key: item for key, item in RICH_CARD.items() if key != name})
    check(oracle, f'{text[:-1]},"{name}":{value}}}')


@pytest.mark.parametrize("length", range(29))
def test_a_card_as_an_array(oracle: CardOracle, length: int) -> None:
    check(oracle, json.dumps([*(RICH_CARD[name] for name in RICH_CARD), None][:length]))


@pytest.mark.parametrize("depth", [1, 125, 126, 127, 128, 5000])
@pytest.mark.parametrize("name", ["user_data", "unknown"])
def test_nesting(oracle: CardOracle, depth: int, name: str) -> None:
    check(oracle, json.dumps(MINIMAL)[:-1] + f',"{name}":{"[" * depth}{"]" * depth}}}')


@pytest.mark.parametrize("text", ["", " ", "null", "[]", "1", '"a"', "{}", "\ufeff{}", "\x00"])
def test_what_is_no_card_at_all(oracle: CardOracle, text: str) -> None:
    assert not check(oracle, text)


def test_our_own_key_does_not_disturb(oracle: CardOracle) -> None:
    text = json.dumps(RICH_CARD | {"muster": {"a": [1]}})
    mine, theirs = ours(text), oracle.read(text)
    again = oracle.read(mine.text or "")
    assert mine.mdcsum == theirs.mdcsum == again.mdcsum
    assert canonical(again.text) == canonical(theirs.text)


def test_slugs(oracle: CardOracle, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = random.Random(1)
    names = ["Qwen/Qwen3-0.6B", "__x", "ẞ", "İ", "ΑΣ", "ﬀ", "Ǆ", "\u1e9e_ß", "模型", "K"]
    for _ in range(300):
        codes = (
            source.choice((source.randrange(32, 127), source.randrange(0xD800))) for _ in "12345"
        )
        names.append("".join(map(chr, codes)))
    for name in names:
        theirs = oracle.load(tmp_path, name)
        mine = ModelDeploymentCard.load(tmp_path, name)
        assert canonical(mine.to_json_str()) == canonical(theirs.text), ascii(name)


DIRECTORIES: list[dict[str, str]] = [
    {},
    {"model.gguf": ""},
    {"params.json": ""},
    {"params.json": "{}", "tokenizer.json": "", "tokenizer_config.json": '{"model_max_length":5}'},
    {"tokenizer.json": "{}", "tokenizer_config.json": "{}", "generation_config.json": "x"},
    {"tiktoken.model": "a", "x.tiktoken": "b"},
    {"x.tiktoken": "b"},
    {"x.tiktoken": "b", "y.tiktoken": "c"},
    {".tiktoken": "b"},
    {"chat_template.jinja": "a", "chat_template.json": "b"},
    {"chat_template.json": "b"},
]
CONFIGS = [
    *("", "{}", "[]", "[7]", "[7,{}]", "[7,null]", "null", "{", "{} x", "// c\n{}", "{a:1,}"),
    *('{"max_position_embeddings":7}', '{"max_position_embeddings":0}', '{"text_config":[]}'),
    *('{"max_position_embeddings":null}', '{"max_position_embeddings":7.0}', "{'a':'\\\n'}"),
    *('{"text_config":{"max_position_embeddings":9}}', '{"text_config":[9]}', '{"text_config":1}'),
    *('{"max_position_embeddings":+0x10}', '{"max_position_embeddings":7,"x":NaN,"y":.5,"z":5.}'),
    *('{"max_position_embeddings":7,"s":"\\x41\\v"}', '{"max_position_embeddings":07}', "{a:01}"),
    *('{"max_position_embeddings":7,"s":"\n"}', '\ufeff\xa0{"max_position_embeddings":7}', "{,}"),
    *('{"text_config":null}', '{"a":1,"a":2}', '{"text_config":{},"text_config":{}}', "{a:-0}"),
    *("{max_position_embeddings:-0}", "{max_position_embeddings:4294967296}", "{a:1e999}"),
    *("{null:1}", "{nullx:1}", r"{tru\u0065:1}", r"{\u0031:1}", "{a\u0301:1}", "{²:1}", "{x:.e3}"),
    *("{max_position_embeddings:+ /**/7}", "{x:- Infinity}", "{x:- -1}", "{x:'\u2028'}", "{\x85}"),
    *("[7,{},5]", "{text_config:[1,'a']}", "[7,[9,8]]", "{max_position_embeddings:- 0x9}"),
    *(r"{x:'\9'}", r"{'\9':1}", r"{x:{'\9':1}}", r"{'\ud83d\ude00':1}", r"{x:'\u1'}", "{x:.}"),
    '{"max_position_embeddings":7,"s":' + "[" * 200 + "]" * 200 + "}",
]
TOKENIZERS = [
    *("", "{}", "{bad", "[5]", '{"model_max_length":5}', '{"model_max_length":0}'),
    *('{"model_max_length":1e30}', '{"model_max_length":4294967296}', "{model_max_length:5}"),
    *('{"model_max_length":1,"model_max_length":2}', '{"model_max_length":5,"x":NaN}'),
    *(
        '{"model_max_length":null}',
        '{"model_max_length":5,"x":"\\ud800"}',
        '{"model_max_length":-0}',
    ),
    *('{"model_max_length":5,"x":1e999}', '{"model_max_length":5.0}', '[{"model_max_length":5}]'),
    '{"model_max_length":5,"x":' + "[" * 200 + "]" * 200 + "}",
]
LOADED = [
    *DIRECTORIES,
    *({"config.json": "{}"} | files for files in DIRECTORIES),
    *({"config.json": text, "tokenizer_config.json": '{"model_max_length":3}'} for text in CONFIGS),
    *({"config.json": "{}", "tokenizer_config.json": text} for text in TOKENIZERS),
]


@pytest.mark.parametrize("files", LOADED, ids=range(len(LOADED)))
def test_directories(oracle: CardOracle, tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    theirs = oracle.load(tmp_path, "Org/M")
    mine = loaded(tmp_path, "Org/M")
    assert canonical(mine.text) == canonical(theirs.text)
    assert mine.mdcsum == theirs.mdcsum
    if theirs.error is not None:
        # the peer's message is the beginning of ours, which adds the cause
        message = theirs.error.partition(": ")[2].partition("[")[0]
        assert (mine.error or "").startswith(message)


ENTRIES = ["tokenizer.json", "x.tiktoken", "config.json", "chat_template.jinja"]


@pytest.mark.parametrize("entry", [*ENTRIES, "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["directory", "dangling", "link"])
def test_directory_entries_that_are_no_plain_files(
    oracle: CardOracle, tmp_path: Path, entry: str, kind: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / entry).unlink(missing_ok=True)
    if kind == "directory":
        (tmp_path / entry).mkdir()
    else:
        (tmp_path / "target").write_text("{}")
        (tmp_path / entry).symlink_to("target" if kind == "link" else "nothing")
    theirs = oracle.load(tmp_path, "m")
    assert canonical(loaded(tmp_path, "m").text) == canonical(theirs.text)
