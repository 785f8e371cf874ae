"""The route a worker serves its model's files by, beside the peer's and nginx.

Three servers of the same files on loopback: a Muster worker, a Dynamo worker, one nginx process.
Each is loaded with wrk in turn (A B C A B C ...): a file of 400 bytes for requests/s, on connections
used again and (``fresh``) on a new one each time, and the tokenizer of 4.4 MB for bytes/s; with
``--large`` also files of 16 MiB and 1 GiB. Figures are medians of rounds; ``cpu_s_per_gb`` and
``cpu_us`` are what the server process spent on a GB (10^9 bytes) and on a request of the small file.

Dynamo holds the whole file in memory for each request, so a load that might take more than a
quarter of this machine's available memory there is left out for it, by name, in ``left_out``.

    python benchmarks/metadata_route.py --peer DIR --shared ../shared [--rounds 5] [--large]
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import NamedTuple

from hosting import (
    MIB,
    Host,
    available_bytes,
    hosting,
    model_with_files,
    nginx,
    nginx_missing,
    wrk_get,
)
from suite import Suite, arguments
from summary import Target
from systems import systems

SMALL, TOKENIZER, MIDDLE, LARGE = (
    "config.json",
    "tokenizer.json",
    "large-tokenizer.dat",
    "one-gib.dat",
)
GB = 1e9
RATIOS = {"muster": "peer", "nginx": "peer"}
TARGETS = [
    Target("small_c16_requests_s", 0.5, at_least=True),
    *(Target(f"tokenizer_c{count}_mb_s", 1.0, at_least=True) for count in (1, 8)),
]


class FileLoad(NamedTuple):
    """One load: a label, the file, how many clients, whether each request has its own connection."""

    label: str
    file: str
    clients: int
    fresh: bool = False


def loads(clients: list[int], *, large: bool) -> list[FileLoad]:
    """Every load, in the order of a round."""
    found = [FileLoad("small_c16", SMALL, 16), FileLoad("small_fresh_c16", SMALL, 16, fresh=True)]
    files = [("tokenizer", TOKENIZER)]
    if large:
        files += [("16mib", MIDDLE), ("1gib", LARGE)]
    return found + [
        FileLoad(f"{label}_c{count}", name, count) for label, name in files for count in clients
    ]


def measure(host: Host, load: FileLoad, seconds: float, scratch: Path) -> dict[str, float]:
    """One server under one load."""

    def run(length: float) -> dict[str, float]:
        got = wrk_get(
            host,
            load.file,
            clients=load.clients,
            seconds=length,
            scratch=scratch,
            fresh=load.fresh,
        )
        if load.file == SMALL:
            return {"requests_s": got.requests_s, "cpu_us": got.cpu_s / got.requests * 1e6}
        return {"mb_s": got.bytes_s / 1e6, "cpu_s_per_gb": got.cpu_s / (got.total_bytes / GB)}

    if load.file in (SMALL, TOKENIZER):
        run(1)
    return run(seconds)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of each load")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--large", action="store_true", help="also files of 16 MiB and 1 GiB")
    suite = Suite("metadata_route", parser)
    seconds = suite.options.seconds or (2.0 if suite.short else 4.0)
    sizes = {MIDDLE: 16 * MIB, LARGE: 1024 * MIB} if suite.options.large else {}
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        scratch = Path(text)
        model = model_with_files(suite.model, scratch / "model", sizes)
        known = systems(suite.peer, model)
        hosts = {
            name: stack.enter_context(hosting(known[name], scratch / name))
            for name in ("muster", "peer")
        }
        if nginx_missing():
            suite.left_out["nginx"] = nginx_missing()
        else:
            hosts["nginx"] = stack.enter_context(nginx(model, scratch / "nginx"))
        for _ in suite.numbers(hosts):
            for load in loads(suite.options.clients, large=suite.options.large):
                in_flight = sizes.get(load.file, 0) * load.clients
                for who, host in suite.in_turn(hosts.items()):
                    if who == "peer" and in_flight > available_bytes() // 4:
                        gigabytes = in_flight / GB
                        suite.left_out[f"peer {load.label}"] = (
                            f"might take {gigabytes:.0f} GB of memory in the worker"
                        )
                        continue
                    suite.add(who, measure(host, load, seconds, scratch), load.label)
    suite.finish(TARGETS, ratios_to=RATIOS)


if __name__ == "__main__":
    main()
