from __future__ import annotations

import socket
import sys

import pytest

from muster.errors import ConfigError
from muster.frontend.processes.reservation import PortReservation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are shared on Linux only")


def test_a_free_port_is_picked_and_others_may_listen_on_it_if_they_share() -> None:
    with (
        PortReservation("127.0.0.1", 0, flag="--http-port") as held,
        socket.create_server(("127.0.0.1", held.port), reuse_port=True) as first,
        socket.create_server(("127.0.0.1", held.port), reuse_port=True),
    ):
        assert first.getsockname()[1] == held.port


def test_every_connection_goes_to_those_who_listen() -> None:
    with (
        PortReservation("127.0.0.1", 0, flag="--http-port") as held,
        socket.create_server(("127.0.0.1", held.port), reuse_port=True) as server,
    ):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", held.port), timeout=5):
                server.accept()[0].close()


def test_a_port_that_others_share_is_in_use_all_the_same() -> None:
    with (
        PortReservation("127.0.0.1", 0, flag="--http-port") as held,
        socket.create_server(("127.0.0.1", held.port), reuse_port=True),
        pytest.raises(ConfigError, match="cannot listen") as caught,
    ):
        PortReservation("127.0.0.1", held.port, flag="--http-port")
    assert "--http-port" in caught.value.hint


def test_a_host_that_is_none_is_said() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.invalid"):
        PortReservation("no.such.invalid", 0, flag="--http-port")
