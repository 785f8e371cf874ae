"""A relay on loopback that counts what comes back through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["Relay", "relay"]

_PIECE = 1 << 18


class Relay:
    """Accepts connections and passes them on to ``target``.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._lock = threading.Lock()
        self._received = 0
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def received(self) -> int:
        """Bytes the target has sent so far, headers and all."""
        with self._lock:
            return self._received

    def close(self) -> None:
        """Take no more connections; those that are there go on until an end closes them."""
        # a blocked accept is woken by this, not by close
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, counted in ((near, far, False), (far, near, True)):
                    pump = threading.Thread(
                        target=self._pump, args=(source, sink, counted), daemon=True
                    )
                    pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if counted:
                    with self._lock:
                        self._received += len(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay to a port on loopback until the block ends."""
    made = Relay(target)
    try:
        yield made
    finally:
        made.close()
