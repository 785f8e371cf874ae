"""Settings of the frontend's HTTP service."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from muster.config.checks import at_least, between, is_port, one_of, words
from muster.config.setting import setting

__all__ = ["HttpSettings"]

_MODES = (
    *("round-robin", "random", "power-of-two", "least-loaded", "device-aware-weighted"),
    "direct",
)


def _is_router_mode(value: Any) -> str | None:
    """Whether a text names a mode in any spelling of Dynamo's: flags, cards, Python bindings."""
    name = str(value).removeprefix("RouterMode.").replace("-", "").replace("_", "").lower()
    if name == "kv":
        return "routing by the cache of the workers is not supported"
    known = {mode.replace("-", "") for mode in _MODES} | {"poweroftwochoices"}
    return None if name in known else f"must be one of {', '.join(_MODES)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The frontend's HTTP service."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - Dynamo's default for the public service
        env="DYN_HTTP_HOST",
        help="Address the frontend listens on.",
    )
    port: int = setting(
        8000,
        env="DYN_HTTP_PORT",
        help="Port the frontend listens on; 0 lets the system pick.",
        unit="port",
        check=is_port,
    )
    body_limit_mb: int = setting(
        45,
        env="DYN_HTTP_BODY_LIMIT_MB",
        help="Largest request body.",
        unit="MB",
        check=at_least(1),
    )
    router_mode: str = setting(
        "round-robin",
        env="DYN_ROUTER_MODE",
        help="How an instance is chosen for a request: round-robin, random, power-of-two, "
        "least-loaded, device-aware-weighted, or direct (the request names it in the header "
        "x-dynamo-worker-instance-id). Dynamo's other spellings of these are taken, too.",
        check=_is_router_mode,
    )
    session_affinity_ttl_s: int | None = setting(
        None,
        env="DYN_ROUTER_SESSION_AFFINITY_TTL_SECS",
        help="How long after its last request a session (x-session-id) is remembered with the "
        "instance that had it. If not set, nothing is remembered: a session's name alone says which "
        "instance it goes to, at every frontend the same.",
        unit="s",
        check=between(1, 31_536_000),
    )
    session_affinity_mode: str = setting(
        "hard",
        env="DYN_ROUTER_SESSION_AFFINITY_MODE",
        help="For sessions that are remembered: hard refuses a request whose instance is full, soft "
        "sends it elsewhere.",
        check=one_of("hard", "soft"),
    )
    migration_limit: int = setting(
        3,
        env="DYN_MIGRATION_LIMIT",
        help="How many further instances a request may be sent to whose instance is lost before its "
        "first token; 0 for none.",
        check=at_least(0),
    )
    migration_after_first: int | None = setting(
        None,
        env="MUSTER_MIGRATION_AFTER_FIRST",
        help="How often an answer that has begun may be continued at another instance; as often as "
        "the migration limit says, if not set; 0 for never.",
        check=at_least(0),
    )
    migration_max_seq_len: int | None = setting(
        None,
        env="DYN_MIGRATION_MAX_SEQ_LEN",
        help="Longest prompt and answer together that are continued at another instance; any, if "
        "not set.",
        unit="tokens",
        check=at_least(1),
    )
    sampling_defaults: bool = setting(
        True,
        env="MUSTER_SAMPLING_DEFAULTS",
        help="Whether requests that name no temperature, top_p, top_k, min_p or penalty get the "
        "model's own from its generation_config.json; otherwise engines get none, as from Dynamo.",
    )
    disable_nvext: bool = setting(
        False,
        env="DYN_DISABLE_FRONTEND_NVEXT",
        help="Ignore `nvext` in requests, apart from its cache_salt, and the headers for priorities.",
    )
    model_path: Path | None = setting(
        None,
        env="DYN_MODEL_PATH",
        help="Directory with a model's files, used where a card's own location is out of reach.",
    )
    namespace: str | None = setting(
        None,
        env="DYN_NAMESPACE",
        help="Serve models of this namespace only.",
    )
    namespace_prefix: str | None = setting(
        None,
        env="DYN_NAMESPACE_PREFIX",
        help="Serve models of namespaces that start so; wins over the namespace.",
    )
    require_models: tuple[str, ...] = setting(
        (),
        env="MUSTER_REQUIRE_MODEL",
        help="Models, separated by commas, without which /health is 503.",
        parse=words,
    )
    cohort_policy: str = setting(
        "first",
        env="MUSTER_COHORT_POLICY",
        help="Which card serves when replicas differ: the first seen, or the majority's.",
        check=one_of("first", "majority"),
    )
    pins: tuple[str, ...] = setting(
        (),
        env="MUSTER_PIN_MODEL",
        help="Cards that alone may serve a model, as NAME=DIGEST (mdcsum or identity), separated by "
        "commas.",
        parse=words,
    )
    error_peek_ms: int = setting(
        200,
        env="DYN_HTTP_PRE_COMMIT_ERROR_PEEK_MS",
        help="How long a stream's headers wait for its first output, so that an error until then has "
        "a status of its own; output does not wait. 0 sends them at once, Dynamo's default.",
        unit="ms",
        check=at_least(0),
    )
    keep_alive_ms: int = setting(
        15_000,
        env="DYN_HTTP_SSE_KEEP_ALIVE_INTERVAL_MS",
        help="After how much silence a stream gets a comment, so that nobody on its way takes it for "
        "dead; 0 for never, Dynamo's default.",
        unit="ms",
        check=at_least(0),
    )
    force_usage: bool = setting(
        False,
        env="DYN_ENABLE_FORCE_INCLUDE_USAGE",
        help="End every stream with its usage, asked for or not.",
    )
    reasoning_field: str = setting(
        "reasoning_content",
        env="DYN_REASONING_FIELD_NAME",
        help="Field of chat messages and deltas that has the reasoning: reasoning_content or "
        "reasoning.",
        check=one_of("reasoning_content", "reasoning"),
    )
    embedding_special_tokens: bool = setting(
        True,
        env="DYN_EMBEDDING_TOKENIZATION_ADD_SPECIAL_TOKENS",
        help="Whether texts to embed get the tokens that begin and end them, where a request does "
        "not say (add_special_tokens).",
    )
    refusing_s: float = setting(
        5.0,
        env="DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS",
        help="How long a shutdown that finishes responses goes on listening; whoever comes is answered "
        "503 with Retry-After.",
        unit="s",
        check=between(0, 86_400),
    )
    drain_timeout_s: float = setting(
        300.0,
        env="MUSTER_DRAIN_TIMEOUT_SECS",
        help="How long a shutdown of a frontend lets responses in flight go on; those that have not "
        "ended then are cut off.",
        unit="s",
        check=between(0, 86_400),
    )
