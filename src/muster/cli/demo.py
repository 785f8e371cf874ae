"""``muster demo``: the whole main job once, on this machine, with every step shown and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from muster.cli.child import Child
    from muster.cli.demo_chat import DemoClient
    from muster.cli.demo_stage import Stage
    from muster.cli.story import Story

__all__ = ["command"]

_NAME = "demo/tiny-town"
_PROMPT = "What does the harbour master write into the book?"
_START_S = 60.0
_STOP_S = 15.0


@click.command()
@click.option(
    "--model-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model's directory; by default one is made on the spot.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a step.")
def command(*, model_path: Path | None, as_json: bool) -> None:
    """Run a worker and, in another process, a frontend with an empty cache; chat once; clean up.

    The exit code is 0 only if every step happened and nothing was left behind.
    """
    from muster.cli.demo_stage import DemoError, open_stage
    from muster.cli.interrupts import Interrupts
    from muster.cli.story import Story

    story = Story(as_json=as_json)
    with Interrupts() as interrupts:
        with open_stage(interrupts) as stage:
            blobs = _run(stage, model_path, story)
        if stage.root.exists():
            raise DemoError(f"left behind: {stage.root} cannot be removed")
    story.tell(
        "clean",
        f"registry empty, no temporary file beside {blobs} verified blobs, both processes ended, "
        "the demo's directory removed",
        blobs=blobs,
        directory=str(stage.root),
    )


def _run(stage: Stage, model_path: Path | None, story: Story) -> int:
    """All steps but the last; how many blobs the cache had in the end."""
    from muster.cli.demo_chat import DemoClient

    model = _make_model(stage, story) if model_path is None else _take_model(model_path, story)
    worker = stage.start("worker", ["worker", "--model-path", str(model), "--model-name", _NAME])
    served, place = _show_registration(worker, story)
    frontend, url = _start_frontend(stage, model, story)
    _show_files(frontend, served, place, story)
    client = DemoClient(frontend, url)
    _show_listing(frontend, client, story)
    _show_chat(frontend, client, story)
    return _show_end(stage, story)


def _make_model(stage: Stage, story: Story) -> Path:
    from muster.cli.demo_model import write_demo_model

    model = stage.root / "worker" / "model"
    write_demo_model(model)
    tokens = json.loads((model / "config.json").read_text())["vocab_size"]
    files = sorted(path.name for path in model.iterdir())
    story.tell(
        "model",
        f"made on the spot: {len(files)} files, a vocabulary of {tokens} tokens just trained",
        files=files,
    )
    return model


def _take_model(path: Path, story: Story) -> Path:
    model = path.resolve()
    story.tell("model", f"{model}", path=str(model))
    return model


def _show_registration(worker: Child, story: Story) -> tuple[int, str]:
    """How many files the worker serves, and the address they are served at."""
    event = worker.wait_for(
        lambda: worker.find_event("model registered"), "registering", timeout_s=_START_S
    )
    served = worker.find_event("endpoint serves") or {}
    status = worker.find_event("status server listens") or {}
    story.tell(
        "register",
        f"{event['model']} at {event['endpoint']}, instance {served.get('instance')}, "
        f"mdcsum {event['mdcsum'][:12]}…",
        model=event["model"],
        endpoint=event["endpoint"],
        instance=served.get("instance"),
        mdcsum=event["mdcsum"],
    )
    count, url = int(event["files_served"]), str(status.get("url"))
    story.tell("hosting", f"{count} metadata files at {url}", files=count, url=url)
    return count, url


def _start_frontend(stage: Stage, model: Path, story: Story) -> tuple[Child, str]:
    from muster.cli.child import can_hide

    hidden = can_hide(model, needed=stage.root)
    frontend = stage.start(
        "frontend",
        ["frontend", "--http-host", "127.0.0.1", "--http-port", "0", "--cache-dir", str(stage.cache)],
        blind_to=model if hidden else None,
    )  # fmt: skip
    listens = frontend.wait_for(
        lambda: frontend.find_event("frontend listens"), "listening", timeout_s=_START_S
    )
    url = f"http://127.0.0.1:{listens['port']}"
    sight = (
        "the model's directory is empty in its mount namespace"
        if hidden
        else "it is not given the model's directory (this system does not let us hide it)"
    )
    story.tell(
        "frontend", f"listens on {url}; its cache is empty, {sight}", url=url, model_hidden=hidden
    )
    return frontend, url


def _show_files(frontend: Child, count: int, place: str, story: Story) -> None:
    """Each file as it arrives, until the model is listed; all must come from ``place``, verified."""
    verified: set[str] = set()
    shown = 0

    def next_event() -> dict[str, Any] | None:
        events = [event for event in frontend.events() if _is_file_event(event)]
        return events[shown] if len(events) > shown else None

    while True:
        event = frontend.wait_for(next_event, "fetching the model", timeout_s=_START_S)
        shown += 1
        if event["message"] == "model listed":
            break
        if event["message"] != "file cached" or event["digest"] not in verified:
            _check_file(frontend, event, place)
        verified.add(event["digest"])
        _show_file(event, story)
    if shown - 1 != count:
        raise frontend.fault(f"fetched {shown - 1} files of the {count} that the worker serves")


def _is_file_event(event: dict[str, Any]) -> bool:
    message = str(event.get("message", ""))
    return message.startswith(("file ", "model listed", "model cannot be served"))


def _check_file(frontend: Child, event: dict[str, Any], place: str) -> None:
    if "file_name" not in event or event["message"] == "file not fetched":
        raise frontend.fault(f"cannot serve the model: {event.get('reason')}")
    if event["message"] != "file verified" or not str(event["place"]).startswith(f"{place}/"):
        raise frontend.fault(f"has {event['file_name']} from elsewhere than {place}")


def _show_file(event: dict[str, Any], story: Story) -> None:
    again = event["message"] == "file cached"
    how = "the same bytes again" if again else f"verified, {event['seconds'] * 1000:.0f} ms"
    story.tell(
        "fetch",
        f"{event['file_name']:<24} {_size(event['bytes']):>9}  {event['digest'][:20]}…  {how}",
        detail=event["place"],
        file=event["file_name"],
        bytes=event["bytes"],
        digest=event["digest"],
        verified=not again,
        place=event["place"],
        ms=round(event["seconds"] * 1000, 1),
    )


def _show_listing(frontend: Child, client: DemoClient, story: Story) -> None:
    models = frontend.wait_for(
        lambda: client.models() or None, "listing the model", timeout_s=_START_S
    )
    if models != [_NAME]:
        raise frontend.fault(f"lists {models} in /v1/models, not just {_NAME}")
    story.tell("listed", f"GET /v1/models: {_NAME}", models=models)


def _show_chat(frontend: Child, client: DemoClient, story: Story) -> None:
    body = {
        "model": _NAME,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": 48,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    story.say(f"          > {_PROMPT}")
    story.break_line()
    story.say("          <")
    text, usage, reason = "", None, None
    for chunk in client.chat(body):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content") or ""
            text += piece
            reason = choice["finish_reason"] or reason
            story.say(piece)
    story.break_line()
    if not text.strip() or reason is None or usage is None:
        raise frontend.fault(f"ended the chat with {reason!r}, usage {usage}, text {text!r}")
    story.tell(
        "chat",
        f"streamed to [DONE]: {usage['prompt_tokens']} prompt and "
        f"{usage['completion_tokens']} completion tokens, finish reason {reason}",
        text=text,
        usage=usage,
        finish_reason=reason,
    )


def _show_end(stage: Stage, story: Story) -> int:
    """End both processes in order and see what they leave; how many blobs are in the cache."""
    from muster.cli.demo_stage import DemoError

    for child in stage.children:
        code = child.stop(timeout_s=_STOP_S)
        if code != 0:
            raise child.fault(f"ended with exit code {code} after SIGTERM")
        story.tell(
            "stop", f"{child.name}: SIGTERM, exit code 0", process=child.name, exit_code=code
        )
    left = [path for path in stage.registry.rglob("*") if path.is_file()]
    left += [path for kind in ("tmp", "bad") for path in stage.cache.rglob(f"*.{kind}.*")]
    if left:
        raise DemoError(f"left behind: {', '.join(map(str, left))}")
    return sum(1 for _ in (stage.cache / "blobs").iterdir())


def _size(count: int) -> str:
    for unit, name in ((1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
