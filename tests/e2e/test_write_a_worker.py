"""The worker of the how-to page, run as it stands, answers a chat through a real frontend."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-worker.md"

pytestmark = pytest.mark.timeout(120)


def examples() -> tuple[str, str]:
    """The page's worker, and its worker that embeds."""
    worker, embedder = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    return worker, embedder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def test_the_pages_worker_answers_a_chat_and_ends_in_order(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_tiny_model(model)
    worker = site.script(examples()[0], role="worker", DYN_SYSTEM_PORT="0", MODEL=str(model))
    frontend = site.frontend()
    frontend.wait_for_model("acme/backwards")

    whole = frontend.chat("acme/backwards", max_tokens=1000)["choices"][0]
    assert whole["finish_reason"] == "stop"
    assert "Say something about the sea." in whole["message"]["content"][::-1]

    cut = frontend.chat("acme/backwards", max_tokens=3)
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 3

    chunks = [*frontend.stream("acme/backwards", max_tokens=1000)]
    assert chunks[-1] == "[DONE]"
    pieces = [json.loads(each)["choices"] for each in chunks[:-1]]
    text = "".join(each[0]["delta"].get("content") or "" for each in pieces if each)
    assert text == whole["message"]["content"]

    with pytest.raises(urllib.error.HTTPError) as caught:
        frontend.chat("acme/backwards", max_tokens=0)
    assert caught.value.code == 400
    caught.value.close()

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    wait_until(lambda: site.records("v1/mdc") == site.records("v1/instances") == {}, "gone")


def test_the_pages_worker_that_embeds_answers(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_tiny_model(model)
    worker = site.script(examples()[1], role="worker", DYN_SYSTEM_PORT="0", MODEL=str(model))
    frontend = site.frontend()
    frontend.wait_for_model("acme/lengths")

    def embed(**more: object) -> urllib.request.Request:
        return urllib.request.Request(
            frontend.url + "/v1/embeddings",
            data=json.dumps({"model": "acme/lengths", "input": ["abc", "b"]} | more).encode(),
            headers={"content-type": "application/json"},
        )

    with urllib.request.urlopen(embed(), timeout=10) as reply:
        data = json.load(reply)["data"]
    assert [each["embedding"] for each in data] == [[3.0, ord("a")], [1.0, ord("b")]]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(embed(dimensions=3), timeout=10)
    assert caught.value.code == 400
    caught.value.close()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
