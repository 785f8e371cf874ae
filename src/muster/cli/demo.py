"""``muster demo``: the whole main job once, on this machine, with every step shown and checked."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from muster.cli.child import Child, ChildError, can_hide

__all__ = ["command"]

_NAME = "demo/tiny-town"
_PROMPT = "What does the harbour master write into the book?"
_START_S = 60.0
_STOP_S = 15.0


class Story:
    """Tells the steps: one line each, or one JSON object each."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._colour = sys.stdout.isatty() and not as_json
        self._began = time.monotonic()

    def tell(self, step: str, line: str, /, **facts: Any) -> None:
        """One step that has happened."""
        seconds = time.monotonic() - self._began
        if self._json:
            click.echo(json.dumps({"step": step, "seconds": round(seconds, 3), **facts}))
            return
        mark = click.style("✓", fg="green") if self._colour else "*"
        label = click.style(f"{step:<10}", bold=True) if self._colour else f"{step:<10}"
        click.echo(f"{seconds:6.2f} s  {mark} {label} {line}")

    def say(self, text: str) -> None:
        """Text that comes bit by bit; not part of ``--json``."""
        if not self._json:
            click.echo(click.style(text, fg="cyan") if self._colour else text, nl=False)

    def end_saying(self) -> None:
        """A line break after ``say``."""
        if not self._json:
            click.echo()


@click.command()
@click.option(
    "--model-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model's directory; by default one is made on the spot.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a step.")
def command(*, model_path: Path | None, as_json: bool) -> int:
    """Run a worker and, in another process, a frontend with an empty cache; chat once; clean up.

    The exit code is 0 only if every step happened and nothing was left behind.
    """
    root = Path(tempfile.mkdtemp(prefix="muster-demo-"))
    children: list[Child] = []
    try:
        _run(root, model_path, Story(as_json=as_json), children)
    finally:
        for child in children:
            child.kill()
        shutil.rmtree(root, ignore_errors=True)
    return 0


def _run(root: Path, model_path: Path | None, story: Story, children: list[Child]) -> None:
    if model_path is None:
        from muster.cli.demo_model import write_demo_model

        model = root / "worker" / "model"
        write_demo_model(model)
        tokens = json.loads((model / "config.json").read_text())["vocab_size"]
        files = sorted(path.name for path in model.iterdir())
        story.tell(
            "model", f"made on the spot: {len(files)} files, a vocabulary of {tokens}", files=files
        )
    else:
        model = model_path.resolve()
        story.tell("model", f"{model}", path=str(model))
    registry = root / "registry"
    common = {
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(registry),
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
        "DYN_SYSTEM_HOST": "127.0.0.1",
    }
    arguments = [
        "worker",
        "--model-path",
        str(model),
        "--model-name",
        _NAME,
        "--speedup-ratio",
        "1",
    ]
    worker = Child("worker", arguments, root / "worker", common)
    children.append(worker)
    _show_registration(worker, story)

    cache = root / "frontend" / "cache"
    hidden = can_hide(model)
    frontend = Child(
        "frontend",
        ["frontend", "--http-host", "127.0.0.1", "--http-port", "0", "--cache-dir", str(cache)],
        root / "frontend",
        common,
        blind_to=model if hidden else None,
    )
    children.append(frontend)
    listens = frontend.wait_for(
        lambda: frontend.find_event("frontend listens"), "listening", timeout_s=_START_S
    )
    url = f"http://127.0.0.1:{listens['port']}"
    sight = "cannot see" if hidden else "is not told of"
    story.tell(
        "frontend",
        f"listens on {url}; its cache is empty, and it {sight} the model's directory",
        url=url,
        model_hidden=hidden,
    )
    _show_files(frontend, story)
    _show_listing(frontend, url, story)
    _show_chat(url, story)
    _show_end(worker, frontend, registry, cache, story)


def _show_registration(worker: Child, story: Story) -> None:
    event = worker.wait_for(
        lambda: worker.find_event("model registered"), "registering", timeout_s=_START_S
    )
    served = worker.find_event("endpoint serves") or {}
    status = worker.find_event("status server listens") or {}
    story.tell(
        "register",
        f"{event['model']} at {event['endpoint']}, instance {served.get('instance')}, "
        f"card {event['mdcsum'][:12]}…",
        model=event["model"],
        endpoint=event["endpoint"],
        instance=served.get("instance"),
        mdcsum=event["mdcsum"],
    )
    story.tell(
        "hosting",
        f"{event['files_served']} metadata files at {status.get('url')}",
        files=event["files_served"],
        url=status.get("url"),
    )


def _show_files(frontend: Child, story: Story) -> None:
    """Each file as it arrives, until the model is listed."""
    shown = 0

    def next_event() -> dict[str, Any] | None:
        events = [event for event in frontend.events() if _is_file_event(event)]
        return events[shown] if len(events) > shown else None

    while True:
        event = frontend.wait_for(next_event, "fetching the model", timeout_s=_START_S)
        shown += 1
        if event["message"] == "model listed":
            return
        if event["message"] == "model cannot be served; will try again":
            raise ChildError(f"the frontend cannot serve the model: {event['reason']}")
        place = str(event.get("place", ""))
        if event["message"] != "file verified" or not place.startswith("http://127.0.0.1:"):
            raise ChildError(f"{event.get('file')} did not come from the worker: {event}")
        story.tell(
            "fetch",
            f"{event['file']:<24} {_size(event['bytes']):>9}  {event['digest'][:20]}… verified, "
            f"{event['seconds'] * 1000:.0f} ms",
            file=event["file"],
            bytes=event["bytes"],
            digest=event["digest"],
            place=place,
        )


def _is_file_event(event: dict[str, Any]) -> bool:
    message = str(event.get("message", ""))
    return message.startswith("file ") or message in (
        "model listed",
        "model cannot be served; will try again",
    )


def _show_listing(frontend: Child, url: str, story: Story) -> None:
    def listed() -> list[dict[str, Any]] | None:
        with _ask(f"{url}/v1/models") as reply:
            models: list[dict[str, Any]] = json.load(reply)["data"]
        return models or None

    models = frontend.wait_for(listed, "listing the model", timeout_s=_START_S)
    if [model["id"] for model in models] != [_NAME]:
        raise ChildError(f"/v1/models lists {models}, not {_NAME}")
    story.tell("listed", f"GET /v1/models: {_NAME}", models=[model["id"] for model in models])


def _show_chat(url: str, story: Story) -> None:
    body = {
        "model": _NAME,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": 48,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    story.say(f"          > {_PROMPT}\n          < ")
    text, usage, reason = "", None, None
    for chunk in _stream(f"{url}/v1/chat/completions", body):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content") or ""
            text += piece
            reason = choice["finish_reason"] or reason
            story.say(piece.replace("\n", " "))
    story.end_saying()
    if not text.strip() or reason is None or usage is None:
        raise ChildError(f"the chat ended with {reason!r}, usage {usage}, text {text!r}")
    story.tell(
        "chat",
        f"streamed to [DONE]: {usage['prompt_tokens']} prompt and "
        f"{usage['completion_tokens']} completion tokens, finish reason {reason}",
        text=text,
        usage=usage,
        finish_reason=reason,
    )


def _stream(url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed reply; raises unless it ends with ``[DONE]``."""
    request = urllib.request.Request(  # noqa: S310 - ours
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with _ask(request) as reply:
        for line in reply:
            if line.startswith(b"data: [DONE]"):
                return
            if line.startswith(b"data: "):
                chunk: dict[str, Any] = json.loads(line[6:])
                if "error" in chunk:
                    raise ChildError(f"the stream failed: {chunk['error']}")
                yield chunk
    raise ChildError("the stream ended without [DONE]")


def _ask(what: str | urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(what, timeout=30)  # noqa: S310 - our own frontend
    except OSError as error:
        raise ChildError(f"the frontend did not answer: {error}") from error


def _show_end(worker: Child, frontend: Child, registry: Path, cache: Path, story: Story) -> None:
    for child in (worker, frontend):
        code = child.stop(timeout_s=_STOP_S)
        if code != 0:
            raise ChildError(f"the {child.name} ended with exit code {code}")
        story.tell("stop", f"{child.name} ended in order", process=child.name, exit_code=code)
    records = [str(path) for path in registry.rglob("*") if path.is_file()]
    leftovers = [str(path) for path in cache.rglob("*.tmp.*")]
    if records or leftovers:
        raise ChildError(f"left behind: {records + leftovers}")
    blobs = sum(1 for _ in (cache / "blobs").iterdir())
    story.tell("clean", f"registry empty, no temporary file; {blobs} verified blobs were cached")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
