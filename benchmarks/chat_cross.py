"""Frontend against frontend: both over Muster's mock, and both over the peer's.

The loads are the closed ones of ``chat_unary.py`` and ``chat_stream.py``. ``peer_over_muster`` is the
peer's frontend with Muster's mock behind it; ratios are between frontends with the same mock.
``muster_x2`` is Muster's frontend with ``--processes 2``, under the loads of 64 connections.

Frontend, mock and load generator share the cores, so a slower mock leaves less for either frontend,
and the ratio of rates is nearer to 1 than that of the CPU time a request costs the frontend. Streams
at 16 connections over the peer's frontend wait for delayed acknowledgements: see ``chat_stream.py``.

    python benchmarks/chat_cross.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

from chat_load import STREAM, UNARY
from chat_rounds import chat_rounds
from suite import Suite, arguments
from summary import Target
from systems import CROSSED, CROSSED_X2

RATIOS = {
    "muster_over_muster": "peer_over_muster",
    "muster_over_peer": "peer_over_peer",
    "muster_x2_over_muster": "peer_over_muster",
    "muster_x2_over_peer": "peer_over_peer",
}
TARGETS = [
    Target(f"{kind}_c{count}_per_s", limit, at_least=True, pair=f"{who}_to_{other}")
    for kind, limit in (("unary", 1.5), ("stream", 2.0))
    for count in (16, 64)
    for who, other in RATIOS.items()
    if count == 64 or who in CROSSED
]


def main() -> None:
    suite = Suite("chat_cross", arguments(__doc__))
    chat_rounds(
        suite,
        CROSSED,
        [UNARY, STREAM],
        at_most=CROSSED_X2,
        connections=(16, 64),
        fresh=False,
        at_own_times=False,
    )
    suite.finish(TARGETS, ratios_to=RATIOS)


if __name__ == "__main__":
    main()
