"""The demo's client: what anybody would ask a frontend, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from muster.cli.child import Child

__all__ = ["DemoClient"]

_REPLY_S = 30.0


class DemoClient:
    """Asks the frontend that runs as ``child``.

    All its methods raise ``ChildError``, with the end of the child's log, if it does not answer as
    it should.
    """

    def __init__(self, child: Child, url: str) -> None:
        self._child = child
        self._url = url
        # No proxies: one that the environment names cannot reach this machine's loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def models(self) -> list[str]:
        """The ids that ``GET /v1/models`` lists."""
        with self._asked("/v1/models") as reply:
            return [model["id"] for model in json.load(reply)["data"]]

    def chat(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed chat as they come; a stream without ``[DONE]`` is an error."""
        with self._asked("/v1/chat/completions", body) as reply:
            for line in reply:
                if line.startswith(b"data: [DONE]"):
                    return
                if line.startswith(b"data: "):
                    chunk: dict[str, Any] = json.loads(line[6:])
                    if "error" in chunk:
                        raise self._child.fault(f"broke off the stream: {chunk['error']}")
                    yield chunk
        raise self._child.fault("ended the stream without [DONE]")

    @contextlib.contextmanager
    def _asked(self, path: str, body: dict[str, Any] | None = None) -> Iterator[Any]:
        """The reply to a request; what goes wrong while it is read is the child's fault too."""
        request = urllib.request.Request(  # noqa: S310 - our own frontend
            self._url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_REPLY_S) as reply:
                yield reply
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000).decode("utf-8", "replace")
            raise self._child.fault(f"answered {path} with {error.code}: {said}") from error
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            raise self._child.fault(f"did not answer {path} as it should: {error!r}") from error
