"""Where the demo happens: a directory and processes that are gone when it is over."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from muster.cli.child import Child
from muster.cli.interrupts import Interrupts
from muster.errors import MusterError

__all__ = ["DemoError", "Stage", "open_stage"]


class DemoError(MusterError):
    """A step of the demo did not happen."""

    code = "demo"


@dataclasses.dataclass(slots=True)
class Stage:
    """What the demo has to clear away: its directory and its children.

    Attributes:
        root: The directory; everything the demo writes is in it.
        interrupts: Signals that end the demo.
        children: The processes, in the order they were started.
    """

    root: Path
    interrupts: Interrupts
    children: list[Child] = dataclasses.field(default_factory=list)

    @property
    def registry(self) -> Path:
        """Directory of the registry that both processes use."""
        return self.root / "registry"

    @property
    def cache(self) -> Path:
        """Directory of the frontend's cache."""
        return self.root / "frontend" / "cache"

    def start(self, name: str, arguments: list[str], *, blind_to: Path | None = None) -> Child:
        """Start ``muster`` on this stage's registry, on loopback only."""
        environment = {
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(self.registry),
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_SYSTEM_HOST": "127.0.0.1",
        }
        with self.interrupts.held():  # no signal between its start and knowing of it
            child = Child(name, arguments, self.root / name, environment, blind_to=blind_to)
            self.children.append(child)
        return child


@contextlib.contextmanager
def open_stage(interrupts: Interrupts) -> Iterator[Stage]:
    """A stage that is cleared away however the block ends.

    Raises:
        DemoError: Its directory cannot be made, or the block raised an ``OSError``.
    """
    stage: Stage | None = None
    try:
        with interrupts.held():
            stage = Stage(Path(tempfile.mkdtemp(prefix="muster-demo-")), interrupts)
        yield stage
    except OSError as error:
        raise DemoError(
            f"the demo cannot go on: {error}", hint="it writes to a temporary directory, see TMPDIR"
        ) from error
    finally:
        if stage is not None:
            with interrupts.held():
                for child in stage.children:
                    child.kill()
                shutil.rmtree(stage.root, ignore_errors=True)
