"""How cost grows: chat, unary and streamed, over connections and over the length of the prompt.

The loads are those of ``chat_unary.py`` and ``chat_stream.py``, closed and on connections used again:
at 1, 4, 16, 64 and 256 connections with a short prompt (``unary_c64_...``), and with prompts of 100,
1,000 and 10,000 tokens at 16 connections (``unary_p1000_...``). No two of those prompts are alike,
from the first word on, so that nothing that was computed for one can be used for the next. Beyond 64
connections a load takes longer in proportion: requests under way at its end do not count, and they
must stay few.

Streams of few connections say more about the peer's listener than about its speed: it leaves Nagle's
algorithm on, and each stream on a connection used again waits 40 ms for a delayed acknowledgement.

    python benchmarks/growth.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

from chat_load import STREAM, UNARY, closed
from suite import Suite, arguments
from systems import OWN, all_running, systems

CONNECTIONS = (1, 4, 16, 64, 256)
PROMPT_TOKENS = (100, 1_000, 10_000)
AT = 16


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of each load")
    suite = Suite("growth", parser)
    known = systems(suite.peer, suite.model)
    seconds = suite.options.seconds or (1.0 if suite.short else 3.0)
    points = [(f"c{count}", count, 0) for count in CONNECTIONS]
    points += [(f"p{tokens}", AT, tokens) for tokens in PROMPT_TOKENS]
    for _ in suite.numbers(OWN):
        with all_running(known, OWN) as running:
            for kind in (UNARY, STREAM):
                for label, count, tokens in points:
                    for who, at in suite.in_turn(running.items()):
                        load = closed(
                            at,
                            kind,
                            connections=count,
                            seconds=seconds * max(1, count / 64),
                            prompt_tokens=tokens,
                        )
                        suite.add(who, load, f"{kind.name}_{label}")
    suite.finish()


if __name__ == "__main__":
    main()
