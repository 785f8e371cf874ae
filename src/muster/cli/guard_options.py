"""Options of ``muster frontend`` for what protects it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["guard_options"]

F = TypeVar("F", bound=Callable[..., Any])

_FILES = (
    ("--api-keys-file", "guard__keys_file", "Hashed API keys; turns keys on (muster keys new)."),
    ("--tls-cert-path", "guard__tls_certificate", "Certificate of the service; turns TLS on."),
    ("--tls-key-path", "guard__tls_key", "Its private key."),
    ("--tls-client-ca-cert-path", "guard__tls_client_ca", "Authorities of clients' certificates."),
)

_THRESHOLDS = (
    ("--active-decode-blocks-threshold", "guard__active_decode_blocks", float,
     "Part of the KV blocks beyond which a model is busy."),
    ("--active-prefill-tokens-threshold", "guard__active_prefill_tokens", int,
     "Prompt tokens per instance beyond which it is."),
    ("--active-prefill-tokens-threshold-frac", "guard__active_prefill_tokens_frac", float,
     "The same as a multiple of max_num_batched_tokens."),
)  # fmt: skip


_SESSIONS = (
    ("--router-session-affinity-ttl-secs", "http__session_affinity_ttl_s", int,
     "How long a session is remembered with its instance.  [default: its name decides]"),
    ("--router-session-affinity-mode", "http__session_affinity_mode", str,
     "hard refuses what its instance cannot take, soft sends it elsewhere.  [default: hard]"),
    ("--reasoning-field-name", "http__reasoning_field", str,
     "Field that has the reasoning: reasoning_content or reasoning.  [default: reasoning_content]"),
)  # fmt: skip


def guard_options(command: F) -> F:
    """Keys, TLS with Dynamo's names, CORS, the admin port, the queue, thresholds and sessions.

    They are named as ``load_settings`` takes them.
    """
    queue = click.option(
        "--queue-limit", "guard__queue_limit", type=int,
        help="How many requests may wait for a full model.  [default: 0]",
    )  # fmt: skip
    admin = click.option(
        "--admin-port", "guard__admin_port", type=int,
        help="Port of its own for the admin routes; 0 picks one.",
    )  # fmt: skip
    origins = click.option(
        "--cors-origin", "guard__cors_origins", multiple=True, metavar="ORIGIN",
        callback=lambda _context, _option, given: given or None,
        help="An origin whose pages may call the API; may be repeated.",
    )  # fmt: skip
    command = queue(admin(origins(command)))
    for flag, name, kind, text in reversed((*_SESSIONS, *_THRESHOLDS)):
        command = click.option(flag, name, type=kind, help=text)(command)
    for flag, name, text in reversed(_FILES):
        file = click.Path(path_type=Path)
        command = click.option(flag, name, type=file, metavar="FILE", help=text)(command)
    return command
