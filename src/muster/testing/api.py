"""The HTTP API of a frontend that runs as a process, as a plain client sees it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from muster.testing.process import Process
from muster.testing.waiting import START_S, wait_until

__all__ = ["Api"]


class Api:
    """A frontend's HTTP API."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """The JSON of a page, whatever its status."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def models(self) -> list[str]:
        """Ids of the models listed."""
        return [model["id"] for model in self.get("/v1/models")["data"]]

    def wait_for_model(self, name: str) -> None:
        """Wait until ``name`` is listed."""
        self._wait(lambda: name in self.models(), f"model {name!r} listed")

    def wait_for_no_model(self, name: str, *, timeout_s: float = START_S) -> None:
        """Wait until ``name`` is not listed any more."""
        self._wait(lambda: name not in self.models(), f"model {name!r} gone", timeout_s)

    def _wait(self, check: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        try:
            wait_until(check, what, timeout_s=timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.process.text()[-3000:]}") from None

    def chat(self, model: str, **more: Any) -> Any:
        """The reply to a short chat."""
        with self._post("/v1/chat/completions", _chat(model, more)) as reply:
            return json.load(reply)

    def stream(self, model: str, **more: Any) -> Iterator[str]:
        """What follows ``data: `` in each event of a streamed chat, as it comes."""
        with self._post("/v1/chat/completions", _chat(model, more | {"stream": True})) as reply:
            for line in reply:
                if line.startswith(b"data: "):
                    yield line[6:].decode().rstrip("\r\n")

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # the address is ours
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        return urllib.request.urlopen(request, timeout=30)


def _chat(model: str, more: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say something about the sea."}]
    return {"model": model, "messages": messages, "max_tokens": 16} | more
