"""What ``muster top`` says, as rows and lines of text: pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from muster.cli.model_options import short
from muster.cli.quantity import show_age, show_size
from muster.frontend.dashboard.events import Event
from muster.frontend.dashboard.traffic import ModelTraffic
from muster.frontend.dashboard.view import FrontendView, ModelView, Snapshot
from muster.frontend.report import FileReport

__all__ = [
    "HEAD",
    "count",
    "event_line",
    "fetches",
    "latency",
    "model_rows",
    "notes",
    "spark",
    "summary",
]

HEAD = ("MODEL", "STATE", "REPLICAS", "REQ/S", "TOK/S", "ACTIVE", "TTFT", "p95", "ITL", "p95")
_TROUBLE_FIRST = ("refused", "retrying", "fetching", "verifying", "loading", "seen", "serving")
_BARS = "▁▂▃▄▅▆▇█"
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_RECENT = 10
_NONE = "-"


def count(value: float) -> str:
    """A rate: ``0``, ``0.4``, ``12``, ``1.2k``."""
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def latency(seconds: float | None) -> str:
    """``3.4 ms``, ``120 ms``, ``1.2 s``."""
    if seconds is None:
        return _NONE
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def spark(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as bars; all the lowest where there is nothing."""
    shown = values[-width:]
    highest = max(shown, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(7, int(value / highest * 7.99))] for value in shown)


def summary(state: Snapshot) -> list[str]:
    """The whole in two or three lines."""
    frontend, recent = state.frontend, state.seconds[-_RECENT:]
    models = state.models.values()
    serving = sum(model.state == "serving" for model in models)
    age = show_age(state.at - frontend.started)
    served = f"{serving} of {len(models)} models served"
    several = _processes(frontend)
    lines = [f"{frontend.status}, up {age}, version {frontend.version}{several}, {served}"]
    if frontend.status in ("unavailable", "draining") and frontend.message:
        lines.append(_prose(frontend.message))
    if frontend.stale_since is not None:
        lines.append(
            f"the registry has been out of reach for {show_age(state.at - frontend.stale_since)}: "
            f"{frontend.stale_reason}"
        )
    if recent:
        size = len(recent)
        failed = sum(second.failed for second in recent) / size
        last = [second for second in state.seconds[-60:] if second.ttft_p50 is not None]
        ttft = latency(last[-1].ttft_p50) if last else _NONE
        lines.append(
            f"{count(sum(second.started for second in recent) / size)} requests/s"
            + (f" ({count(failed)}/s fail)" if failed else "")
            + f", {count(sum(second.tokens for second in recent) / size)} tokens/s"
            f", {recent[-1].active} in flight, first token {ttft}"
        )
    if state.cache is not None:
        cache = state.cache
        budget = f" of {show_size(cache.max_bytes)}" if cache.max_bytes else ""
        lines.append(
            f"cache {cache.path}: {cache.error}"
            if cache.error
            else f"cache {cache.path}: {cache.files} files, {show_size(cache.size_bytes)}{budget}"
        )
    return lines


def _sorted(state: Snapshot) -> list[ModelView]:
    def rank(model: ModelView) -> tuple[float, str, str]:
        index = _TROUBLE_FIRST.index(model.state) if model.state in _TROUBLE_FIRST else 0
        whole = not model.excluded and all(each.state == "serving" for each in model.cohorts)
        return index - (0 if whole else 0.5), model.model, model.endpoint

    return sorted(state.models.values(), key=rank)


def _processes(frontend: FrontendView) -> str:
    """How many processes it is, if it is to be several."""
    running, wanted = frontend.processes, frontend.process_count
    if running < wanted:
        return f", {running} of {wanted} processes"
    return f", {wanted} processes" if wanted > 1 else ""


def model_rows(state: Snapshot) -> list[list[str]]:
    """A row a model, those in trouble first, with the columns of ``HEAD``."""
    rows = []
    for model in _sorted(state):
        traffic = state.traffic.get(model.model, ModelTraffic())
        replicas = sum(len(cohort.replicas) for cohort in model.cohorts)
        good = sum(len(one.replicas) for one in model.cohorts if one.state == "serving")
        rows.append(
            [
                model.model or "?", model.state, f"{good}/{replicas}",
                count(traffic.started), count(traffic.tokens), str(traffic.active),
                latency(traffic.ttft_p50), latency(traffic.ttft_p95),
                latency(traffic.itl_p50), latency(traffic.itl_p95),
            ]
        )  # fmt: skip
    return rows


def notes(state: Snapshot) -> Iterator[str]:
    """Why models, cohorts and instances are not served, model by model."""
    for model in _sorted(state):
        told: set[str] = set()
        for cohort in model.cohorts:
            if cohort.state == "serving":
                continue
            told |= {place.instance for place in cohort.replicas}
            code = f" ({cohort.code})" if cohort.code else ""
            who = ", ".join(place.instance or place.key for place in cohort.replicas)
            card = f" card {short(cohort.mdcsum)}" if cohort.mdcsum else ""
            why = f": {_prose(cohort.message)}" if cohort.message else ""
            yield f"{model.model or '?'}{card} is {cohort.state}{code} at {who}{why}"
            if cohort.differs:
                yield f"  differs in {'; '.join(cohort.differs)}"
        if model.retry_at is not None:
            pause = max(0.0, model.retry_at - state.at)
            yield f"  attempt {model.attempt} failed; the next one is in {pause:.0f} s"
        for each in model.excluded:
            if each.instance not in told:
                yield f"{model.model}: {each.instance} gets no requests: {_prose(each.reason)}"


def fetches(state: Snapshot) -> list[tuple[str, FileReport]]:
    """Files that are on their way, each with its model's name."""
    return [
        (model.model, file)
        for model in _sorted(state)
        for file in model.files
        if file.state in ("fetching", "verifying")
    ]


def event_line(event: Event) -> str:
    """An event in a line: local time, level unless it is ``info``, model, what, why."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at))
    level = "" if event.level == "info" else f"{event.level}: "
    model = f"{event.model} " if event.model else ""
    code = f" ({event.code})" if event.code else ""
    detail = f": {_prose(event.detail)}" if event.detail else ""
    return f"{at} {level}{model}{event.what}{code}{detail}"


def _prose(text: str) -> str:
    """``text`` with whole digests cut to their first digits."""
    return _DIGEST.sub(r"\1…", text)
