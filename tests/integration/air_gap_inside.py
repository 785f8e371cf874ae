"""What ``test_air_gap`` runs in a network namespace of its own: a place with no way out but a watched one.

The only interface beside loopback has the default route and leads nowhere; a packet socket on it
keeps whatever tries to leave. The resolver's server lies behind it too.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from muster.testing.site import Site

OUT = "out0"
ALL_PROTOCOLS = 3  # ETH_P_ALL, of linux/if_ether.h
SOL_PACKET = 263
PACKET_STATISTICS = 6
ICMP6_NOISE = {0, 58}  # what the kernel itself sends on a new interface: hop-by-hop (MLD), ICMPv6
OPEN_HOSTS = {
    "DYN_TCP_RPC_HOST": "",
    "DYN_TCP_RESPONSE_STREAM_HOST": "",
    "DYN_SYSTEM_HOST": "",
}
"""Unset, so that processes choose addresses as they do by default."""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def build_exit(root: Path) -> None:
    """Make the watched interface the way to everywhere, name servers included."""
    run("ip", "link", "set", "lo", "up")
    try:
        run("ip", "link", "add", OUT, "type", "dummy")
    except subprocess.CalledProcessError:  # a kernel without that kind
        run("ip", "link", "add", OUT, "type", "veth", "peer", "name", "end0")
        run("ip", "link", "set", "end0", "up")
    run("ip", "link", "set", OUT, "arp", "off")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", OUT)
    run("ip", "link", "set", OUT, "up")
    run("ip", "route", "add", "default", "via", "192.0.2.254", "dev", OUT)
    with contextlib.suppress(subprocess.CalledProcessError):  # a kernel without IPv6
        run("ip", "-6", "addr", "add", "2001:db8::1/64", "dev", OUT, "nodad")
        run("ip", "-6", "route", "add", "default", "dev", OUT)
    resolver = root / "resolv.conf"
    resolver.write_text("nameserver 198.51.100.53\noptions timeout:1 attempts:1\n")
    run("mount", "--bind", str(resolver), "/etc/resolv.conf")


class Watch:
    """Keeps what leaves through the interface."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS)
        )
        self._socket.bind((OUT, ALL_PROTOCOLS))
        self._socket.setblocking(False)

    def caught(self) -> list[str]:
        """What left since the last call, each as protocol and destination."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (_, protocol, *_) = self._socket.recvfrom(4096)
                shown = describe(data, protocol)
                if shown is not None:
                    found.append(shown)
        return found

    def missed(self) -> int:
        """How many packets there was no room for."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int.from_bytes(statistics[4:8], sys.byteorder)


def describe(data: bytes, protocol: int) -> str | None:
    """A packet in words; ``None`` for the kernel's own."""
    if protocol == 0x0800 and len(data) >= 20:
        length = (data[0] & 15) * 4
        port = int.from_bytes(data[length + 2 : length + 4], "big")
        return f"ip/{data[9]} {socket.inet_ntop(socket.AF_INET, data[16:20])}:{port}"
    if protocol == 0x86DD and len(data) >= 40:
        if data[6] in ICMP6_NOISE:
            return None
        port = int.from_bytes(data[42:44], "big")
        return f"ip6/{data[6]} {socket.inet_ntop(socket.AF_INET6, data[24:40])}:{port}"
    return f"ethertype {protocol:#06x}"


def muster(*arguments: str) -> str:
    """Run a command that must succeed; what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def self_hosting(root: Path, model: Path) -> Any:
    """A worker that serves its files, a frontend with an empty cache, one chat."""
    with Site(root) as site:
        site.worker(model, "tiny", **OPEN_HOSTS)
        api = site.frontend(**OPEN_HOSTS)
        api.wait_for_model("tiny")
        addresses = [
            json.dumps(each["transport"]) for each in site.records("v1/instances").values()
        ]
        return {"reply": api.chat("tiny"), "addresses": addresses}


def from_the_cache(root: Path, model: Path) -> Any:
    """A pack is all that is left of the model; the worker serves no files."""
    pack = root / "tiny.pack"
    muster("pack", str(model), "-o", str(pack))
    shutil.rmtree(model)
    unpacked, cache = root / "unpacked", root / "cache"
    muster("verify", str(pack))
    muster("unpack", str(pack), "-d", str(unpacked))
    muster("verify", str(unpacked))
    muster("card", str(unpacked))
    muster("cache", "import", str(pack), "--cache-dir", str(cache))
    with Site(root) as site:
        site.worker(unpacked, "tiny", DYN_SELF_HOST_METADATA="0", **OPEN_HOSTS)
        shutil.rmtree(unpacked)  # so that the cache is the only place left
        api = site.frontend("--cache-dir", str(cache), **OPEN_HOSTS)
        api.wait_for_model("tiny")
        return {"reply": api.chat("tiny")}


def control() -> None:
    """Three attempts to leave, as a program makes them that is not as it should be."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo("telemetry.example", 443)
    for family, host in ((socket.AF_INET, "198.51.100.7"), (socket.AF_INET6, "2001:db8:1::7")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.settimeout(0.2)
            attempt.connect((host, 443))


def main(scenario: str, root: Path, model: Path) -> None:
    """Write what happened as JSON; exit code 77: this machine has no way to set the place up."""
    try:
        build_exit(root)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        sys.stdout.write(f"cannot build a watched exit: {detail.decode('utf-8', 'replace')}")
        raise SystemExit(77) from error
    watch = Watch()
    watch.caught()
    done = {"self-hosting": self_hosting, "cache": from_the_cache}[scenario](root, model)
    left = watch.caught()
    control()
    report = done | {"left": left, "control": watch.caught(), "missed": watch.missed()}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
