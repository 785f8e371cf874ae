"""What scripts, systems and figures are called on the page, by their names in the reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "CONDITIONS",
    "HEADLINES",
    "SYSTEMS",
    "TITLES",
    "Figure",
    "figure",
    "mock_words",
    "number",
    "target_words",
    "times",
]

TITLES = {
    "chat_unary": "Chat, unary",
    "chat_stream": "Chat, streamed",
    "chat_cross": "Frontend against frontend, over the same mock",
    "growth": "How cost grows",
    "first_token": "Time to the first token",
    "frontend_cpu": "CPU time in the frontend",
    "request_plane": "Request plane, Python to Python",
    "metadata_route": "Metadata route of a worker",
    "worker_memory": "Memory of a worker that serves large files",
    "resolve": "From a card to a verified cache, and to a listed model",
    "start": "Start to a listed model",
    "memory": "Memory after load",
    "long_prompts": "Prompts of 60,000 tokens, and short requests beside them",
    "large_fleet": "A large fleet in the registry",
    "idle_cpu": "CPU time of a fleet that nobody asks",
    "discovery": "Registries by themselves",
}
SYSTEMS = {
    "muster": "Muster",
    "muster_x2": "Muster x2",
    "peer": "peer",
    "grpcio": "grpcio",
    "muster_nats": "Muster, NATS",
    "peer_nats": "peer, NATS",
    "nginx": "nginx",
}
"""By name; ``who_over_whose`` is a frontend of one and a mock of another."""
HEADLINES = {
    "chat_unary": "unary_c64_per_s",
    "chat_stream": "stream_c64_per_s",
    "chat_cross": "unary_c64_per_s",
    "growth": "unary_p10000_per_s",
    "first_token": "reused_p50_ms",
    "frontend_cpu": "request_us",
    "request_plane": "requests_per_s",
    "metadata_route": "tokenizer_c8_mb_s",
    "worker_memory": "1gib_c1_grown_mb",
    "resolve": "few_cold_listed_ms",
    "start": "listed_s",
    "memory": "loaded_frontend_rss_mb",
    "long_prompts": "long_per_s",
    "large_fleet": "all_listed_s",
    "idle_cpu": "file_frontend_percent",
    "discovery": "file_seen_median_ms",
}
"""The figure that stands for a script where there is room for one."""
CONDITIONS = ("others_cores", "client_cores", "late_p99_ms")
"""Ends of names of figures that say how it was measured, and get no row."""

_AREAS = {
    "frontend_cpu": "frontend CPU",
    "request_plane": "request plane",
    "metadata_route": "metadata route",
    "start": "start of both",
    "long_prompts": "prompts of 60,000 tokens",
}
"""What goes before figures that would not be understood outside their section."""

_CHAT = re.compile(r"(unary|stream)_(?:(fresh|open)_)?([cp]?)(\d+)_(\w+)")
_CHAT_MEASURES = {
    "per_s": "{unit}s/s",
    "p50_ms": "whole request, p50, ms",
    "p99_ms": "whole request, p99, ms",
    "first_p50_ms": "first token, p50, ms",
    "first_p99_ms": "first token, p99, ms",
    "frontend_cpu_us": "CPU of the frontend, µs a {unit}",
    "worker_cpu_us": "CPU of the mock, µs a {unit}",
}
_MEMORY = {"rss_mb": "RSS, MB", "pss_mb": "PSS, MB"}
_REGISTRY = {
    "register_1000_s": "1,000 records registered, s",
    "list_10000_s": "10,000 records listed, s",
    "event_median_us": "a change seen, p50, µs",
    "event_p99_us": "a change seen, p99, µs",
    "seen_median_ms": "an endpoint seen by a client, p50, ms",
}
_GROUPS: Mapping[str, Mapping[str, str]] = {
    "first_token": {
        "reused": "connection used again",
        "fresh": "a connection a request",
    },
    "metadata_route": {
        "small_fresh_c16": "400 B, 16 clients, a connection a request",
        "small_c16": "400 B, 16 clients",
        "tokenizer_c1": "4.4 MB, 1 client",
        "tokenizer_c8": "4.4 MB, 8 clients",
        "16mib_c1": "16 MiB, 1 client",
        "16mib_c8": "16 MiB, 8 clients",
        "1gib_c1": "1 GiB, 1 client",
        "1gib_c8": "1 GiB, 8 clients",
    },
    "worker_memory": {
        "1gib_c1": "1 GiB, 1 client",
        "1gib_c50": "1 GiB, 50 clients",
        "64mib_c50": "64 MiB, 50 clients",
    },
    "resolve": {
        "few_cold": "few files, empty cache",
        "few_again": "few files, the card comes back",
        "few_warm": "few files, new process over a full cache",
        "many_cold": "200 small files, empty cache",
        "many_again": "200 small files, the card comes back",
        "many_warm": "200 small files, new process over a full cache",
        "eight": "8 frontends of a host, one empty cache",
    },
    "memory": {
        "idle_frontend": "frontend before load",
        "idle_worker": "mock before load",
        "loaded_frontend": "frontend after load",
        "loaded_worker": "mock after load",
    },
    "idle_cpu": {
        "file_alone": "files as registry, 1 instance",
        "file": "files as registry, 101 instances",
        "etcd_alone": "etcd as registry, 1 instance",
        "etcd": "etcd as registry, 101 instances",
    },
    "discovery": {
        "memory": "in memory",
        "file": "files",
        "etcd": "etcd",
    },
}
"""By script: beginnings of names, and what they stand for."""
_MEASURES: Mapping[str, Mapping[str, str]] = {
    "first_token": {
        "p50_ms": "first token, p50, ms",
        "p99_ms": "first token, p99, ms",
        "whole_p50_ms": "32 tokens, p50, ms",
    },
    "frontend_cpu": {
        "request_us": "a unary request, µs",
        "token_us": "a streamed token, µs",
        "paced_token_us": "a paced token, own mock, µs",
        "paced_tokens_s": "paced tokens/s, own mock",
        "paced_same_mock_token_us": "a paced token, Muster's mock, µs",
        "paced_same_mock_tokens_s": "paced tokens/s, Muster's mock",
    },
    "request_plane": {
        "requests_per_s": "requests/s, 32 in flight",
        "items_per_s": "streamed items/s",
        "turn_items_per_s": "streamed items/s, handler waits once an item",
        "latency_1_median_us": "a request alone, p50, µs",
        "latency_1_p99_us": "a request alone, p99, µs",
        "latency_32_median_us": "a request of 32 in flight, p50, µs",
        "latency_32_p99_us": "a request of 32 in flight, p99, µs",
        "cpu_us_per_request": "CPU of both ends, us a request",
        "cpu_us_per_item": "CPU of both ends, us an item",
    },
    "metadata_route": {
        "requests_s": "requests/s",
        "cpu_us": "CPU of the server, us a request",
        "mb_s": "MB/s",
        "cpu_s_per_gb": "CPU of the server, s a GB",
    },
    "worker_memory": {
        "resident_mb": "resident before, MB",
        "peak_mb": "peak, MB",
        "grown_mb": "memory grown by, MB",
        "copies_mb": "private copies on disk, MB",
        "mb_s": "MB/s",
    },
    "resolve": {
        "files_ms": "files verified, ms",
        "listed_ms": "model listed, ms",
        "fetched_mb": "fetched from the worker, MB",
    },
    "start": {
        "card_s": "the worker's card is there, s",
        "answers_s": "the frontend answers, s",
        "listed_s": "the model is listed, s",
        "cpu_s": "CPU of both up to then, s",
    },
    "memory": _MEMORY,
    "long_prompts": {
        "long_per_s": "long requests/s",
        "long_p50_ms": "long request, p50, ms",
        "short_p50_ms": "short request beside them, p50, ms",
        "short_p99_ms": "short request beside them, p99, ms",
        "quiet_short_p50_ms": "short request alone, p50, ms",
        "quiet_short_p99_ms": "short request alone, p99, ms",
        "shared_long_per_s": "long requests/s that share a system message",
    },
    "large_fleet": {
        "all_listed_s": "all models listed, s",
        "all_known_s": "all instances known, s",
        "cpu_s": "CPU of the frontend until then, s",
        "idle_percent": "CPU of the idle frontend, % of a core",
        "rss_mb": "frontend, RSS MB",
        "added_ms": "a model comes, p50, ms",
        "gone_ms": "a model goes, p50, ms",
    },
    "idle_cpu": {
        "frontend_percent": "frontend, % of a core",
        "worker_percent": "worker, % of a core",
    },
    "discovery": _REGISTRY,
}


class Figure(NamedTuple):
    """What a figure is: of which load or state (may be empty), and what with its unit."""

    group: str
    measure: str

    def __str__(self) -> str:
        return f"{self.group}: {self.measure}" if self.group else self.measure


def figure(script: str, key: str) -> Figure:
    """The words for a figure.

    Raises:
        KeyError: There are none.
    """
    if chat := _CHAT.fullmatch(key):
        return _chat(chat)
    measures = _MEASURES[script]
    if key in measures:
        return Figure("", measures[key])
    # the longest beginning first: some begin with others
    for beginning, words in sorted(_GROUPS.get(script, {}).items(), key=lambda each: -len(each[0])):
        rest = key.removeprefix(f"{beginning}_")
        if rest != key and rest in measures:
            return Figure(words, measures[rest])
    raise KeyError(f"{script}: {key}")


def _chat(found: re.Match[str]) -> Figure:
    kind, how, axis, count, measure = found.groups()
    unit = "request" if kind == "unary" else "token"
    if how == "open":
        group = f"{count} requests/s at times of their own"
    elif axis == "p":
        group = f"prompts of {int(count):,} tokens, 16 connections"
    else:
        group = f"{count} connection{'s' * (count != '1')}"
    group += ", each used once" if how == "fresh" else ""
    group = f"{kind}, {group}" if kind == "unary" else f"streamed, {group}"
    return Figure(group, _CHAT_MEASURES[measure].format(unit=unit))


def target_words(script: str, report: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """What a target's figure is, in a line."""
    words = figure(script, str(target["key"]))
    text = ", ".join(part for part in (_AREAS.get(script), words.group, words.measure) if part)
    if "instances" in report:
        text = f"{report['instances']:,} instances, {text}"
    if over := re.search(r"_over_(\w+?)_to_", str(target["pair"])):
        text += f", {mock_words(over[1])}"
    if str(target["pair"]).startswith("muster_x2"):
        text += ", --processes 2"
    return text


def mock_words(system: str) -> str:
    """Whose mock it is."""
    return "the peer's mock" if system == "peer" else f"{SYSTEMS[system]}'s mock"


def times(ratio: float) -> str:
    """A ratio to the peer, with two digits where it is small."""
    return f"{ratio:.2f}x" if ratio >= 0.01 or ratio == 0 else f"{ratio:.1g}x"


def number(value: float | None, spread: float | None = None) -> str:
    """A figure with about three digits, and half its spread in percent."""
    if value is None:
        return "-"
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} ±{spread * 50:.0f} %" if spread else shown
