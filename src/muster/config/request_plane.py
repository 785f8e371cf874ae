"""Addresses, deadlines and limits of the request plane."""

from __future__ import annotations

import dataclasses

from muster.config.checks import MIB, at_least, is_port, one_of
from muster.config.setting import setting

__all__ = ["RequestPlaneSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlaneSettings:
    """Addresses, deadlines and limits of the request plane."""

    plane: str = setting(
        "tcp",
        env="DYN_REQUEST_PLANE",
        help="Transport by which a worker gets requests: tcp, nats, or loopback (callers in its own "
        "process).",
        check=one_of("tcp", "nats", "loopback"),
    )
    host: str | None = setting(
        None,
        env="DYN_TCP_RPC_HOST",
        help="Address or interface a worker listens on and advertises; by default a routable one.",
    )
    port: int | None = setting(
        None,
        env="DYN_TCP_RPC_PORT",
        help="Port a worker listens on; by default one the system picks.",
        unit="port",
        check=is_port,
    )
    response_host: str | None = setting(
        None,
        env="DYN_TCP_RESPONSE_STREAM_HOST",
        help="Address a caller listens on for response streams; by default a routable one.",
    )
    response_port: int | None = setting(
        None,
        env="DYN_TCP_RESPONSE_STREAM_PORT",
        help="Port a caller listens on for response streams; by default one the system picks.",
        unit="port",
        check=is_port,
    )
    shared_responses: bool = setting(
        True,
        env="MUSTER_SHARED_RESPONSES",
        help="Carry all responses of one worker to one caller over one connection, where both are "
        "Muster; otherwise each has a connection of its own.",
    )
    connect_timeout_s: float = setting(
        5.0,
        env="DYN_TCP_CONNECT_TIMEOUT",
        help="Limit on opening a connection.",
        unit="s",
        check=at_least(0.01),
    )
    ack_timeout_s: float = setting(
        5.0,
        env="DYN_TCP_REQUEST_TIMEOUT",
        help="Limit on the worker's acknowledgement of a request.",
        unit="s",
        check=at_least(0.01),
    )
    call_home_timeout_s: float = setting(
        10.0,
        env="MUSTER_CALL_HOME_TIMEOUT_SECS",
        help="Limit on the worker's connection back, counted from its acknowledgement.",
        unit="s",
        check=at_least(0.01),
    )
    prologue_timeout_s: float = setting(
        60.0,
        env="MUSTER_PROLOGUE_TIMEOUT_SECS",
        help="Limit on the prologue, counted from the worker's connection back.",
        unit="s",
        check=at_least(0.01),
    )
    idle_timeout_s: float = setting(
        600.0,
        env="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS",
        help="Limit on silence within a response stream.",
        unit="s",
        check=at_least(0.01),
    )
    left_stream_timeout_s: float = setting(
        60.0,
        env="MUSTER_LEFT_STREAM_SECS",
        help="The same once the worker has left the registry: it may be hanging.",
        unit="s",
        check=at_least(0.01),
    )
    codec: str = setting(
        "msgpack",
        env="DYN_REQUEST_PLANE_CODEC",
        help="Encoding of requests a worker asks its callers for.",
        check=one_of("msgpack", "json"),
    )
    max_message_bytes: int = setting(
        32 * MIB,
        env="DYN_TCP_MAX_MESSAGE_SIZE",
        help="Largest frame accepted.",
        unit="bytes",
        check=at_least(1024),
    )
    connections_per_host: int = setting(
        4,
        env="MUSTER_TCP_CONNECTIONS_PER_HOST",
        help="Pipelined request connections a caller keeps to one worker.",
        check=at_least(1),
    )
    inhibit_s: float = setting(
        5.0,
        env="DYN_RUNTIME_INHIBITED_DURATION_SECS",
        help="How long an instance that could not be reached gets no requests; 0 turns this off.",
        unit="s",
        check=at_least(0),
    )
    overloaded_s: float = setting(
        0.5,
        env="MUSTER_OVERLOADED_SECS",
        help="How long an instance that refused a request for want of room gets no requests, unless "
        "one of ours on it ends earlier; 0 turns this off.",
        unit="s",
        check=at_least(0),
    )
    retry_timeout_s: float = setting(
        60.0,
        env="MUSTER_RETRY_TIMEOUT_SECS",
        help="How long after its beginning a request may still be sent to another instance.",
        unit="s",
        check=at_least(0),
    )
    cuda_to_cpu_ratio: float = setting(
        8.0,
        env="DYN_ENCODER_CUDA_TO_CPU_RATIO",
        help="Throughput of an instance with an accelerator relative to one without, for "
        "device-aware-weighted routing.",
        check=at_least(0.001),
    )
    request_limit: int = setting(
        10000,
        env="DYN_ENGINE_REQUEST_LIMIT",
        help="Requests a worker handles at a time; further ones wait.",
        check=at_least(1),
    )
    queue_limit: int = setting(
        40000,
        env="DYN_DYNAMO_REQUEST_QUEUE_LIMIT",
        help="Requests that wait for a place; beyond it a worker refuses.",
        check=at_least(0),
    )
    stop_grace_s: float = setting(
        30.0,
        env="MUSTER_STOP_GRACE_SECS",
        help="How long a handler may go on after it was told to stop, before it is cancelled.",
        unit="s",
        check=at_least(0),
    )
    withdraw_grace_s: float = setting(
        0.5,
        env="DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS",
        help="How long a shutdown goes on taking requests after it has left the registry, for callers "
        "who have not heard of that yet.",
        unit="s",
        check=at_least(0),
    )
    drain_timeout_s: float = setting(
        900.0,
        env="DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS",
        help="How long a shutdown waits for requests in flight.",
        unit="s",
        check=at_least(0),
    )
