"""A real ai-dynamo that answers what it makes of a card: the other end of our card tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

import msgspec

__all__ = ["CardOracle", "Verdict"]

_SERVER = """
import json, os, sys
from dynamo._core import ModelDeploymentCard as Card
out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\\n")
os.dup2(2, 1)
for line in sys.stdin.buffer:
    asked = json.loads(line)
    try:
        if "directory" in asked:
            card = Card.load(asked["directory"], asked["name"])
        else:
            card = Card.from_json_str(asked["text"])
        local_dir = card.local_dir()
        answer = {"text": card.to_json_str(), "mdcsum": local_dir.rsplit("/", 1)[1]}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    out.write(json.dumps(answer) + "\\n")
    out.flush()
"""


class Verdict(msgspec.Struct, frozen=True):
    """What became of a card: its text and digest as written back, or why it was refused."""

    text: str | None = None
    mdcsum: str | None = None
    error: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the card was read."""
        return self.error is None


class CardOracle:
    """One process of the peer's Python, asked line by line. Use with ``with``.

    Args:
        python: The interpreter of an environment with ``ai-dynamo-runtime``.
        home: A directory it may use as its home.
    """

    def __init__(self, python: Path, home: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(home), "DYN_LOG": "off"},
        )

    def __enter__(self) -> CardOracle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def read(self, text: str) -> Verdict:
        """What the peer makes of a card's text."""
        return self._ask({"text": text})

    def load(self, directory: Path | str, name: str) -> Verdict:
        """What card the peer makes of a model's directory."""
        return self._ask({"directory": str(directory), "name": name})

    def _ask(self, question: dict[str, str]) -> Verdict:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:  # both are pipes
            raise RuntimeError("the oracle has no pipes")
        stdin.write(msgspec.json.encode(question) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError("the oracle is gone")
        return msgspec.json.decode(line, type=Verdict)
