"""Progress bars for files that are being fetched: on a terminal only, and never torn by log lines."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from muster.cli.table import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from muster.model.fetch.resolved import FetchProgress

__all__ = ["FetchBars"]

_OUTCOMES = {"cached": "in the cache", "verified": "verified"}


class FetchBars:
    """Bars on standard error while it is entered; does nothing if that is no terminal.

    Each file has a bar while it comes; when it is settled, one line says how it went.
    """

    def __init__(self) -> None:
        self._console: Console | None = None
        self._progress: Progress | None = None
        self._tasks: dict[tuple[str, str, str], TaskID] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, model: str, progress: FetchProgress) -> None:
        """Show one step of one file of a model."""
        bars = self._progress
        if bars is None:
            return
        key = (model, progress.name, progress.digest.hex)
        if progress.state in ("fetching", "verifying"):
            if key not in self._tasks:
                name = f"{printable(model)}  {printable(progress.name)}"
                self._tasks[key] = bars.add_task(name, total=progress.total_bytes, place="")
            bars.update(
                self._tasks[key], completed=progress.done_bytes, place=printable(progress.place)
            )
            return
        task = self._tasks.pop(key, None)
        if task is not None:
            bars.remove_task(task)
        self._say(model, progress)

    def _say(self, model: str, progress: FetchProgress) -> None:
        assert self._console is not None  # noqa: S101 - there are bars
        outcome = _OUTCOMES.get(progress.state, f"{progress.state}: {progress.reason}")
        source = (
            f" from {progress.place}" if progress.place and progress.state == "verified" else ""
        )
        self._console.print(
            printable(
                f"{model}  {progress.name}  {progress.done_bytes} bytes in {progress.seconds:.2f} s"
                f"{source}  {outcome}"
            ),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[place]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,  # what else is written is printed above the bars
        )
        self._redirect_log(self._console)
        self._progress.start()

    def _redirect_log(self, console: Console) -> None:
        """Print the log above the bars, each line as it is: folded lines are of no use to anybody."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(_AboveTheBars(console))


class _AboveTheBars:
    """A text stream whose lines a console prints."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print ``text``, which ends its last line."""
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""
