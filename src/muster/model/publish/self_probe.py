"""Ask for one's own file at the address one has advertised, as a frontend would.

An advertised address can be wrong in ways a worker does not notice otherwise: a host name that only
resolves here, an address of a container's bridge, a port that a proxy or another service answers.
What this finds is said and changes nothing: the answer from here need not be that from elsewhere.
"""

from __future__ import annotations

import asyncio
import logging

from muster.digest import Digest
from muster.http.head_request import ask_head
from muster.log import facts

__all__ = ["judge_answer", "probe_address"]

logger = logging.getLogger(__name__)

_TIMEOUT_S = 3.0
_HINT = "set MUSTER_ADVERTISE_HOST or DYN_SYSTEM_HOST to an address that frontends can reach"


async def probe_address(
    url: str, digest: Digest, *, token: str | None = None, timeout_s: float = _TIMEOUT_S
) -> bool:
    """Whether ``url`` gives the file of that digest; logs it either way and raises nothing.

    No proxy is used and no redirect followed. Only the headers are asked for.

    Args:
        url: One of this worker's own, as in its card.
        digest: Of the file there.
        token: What the worker asks for before it gives a file.
        timeout_s: Limit on the whole attempt, in seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            headers = {"authorization": f"Bearer {token}"} if token is not None else {}
            status, fields = await ask_head(url, headers)
    except TimeoutError:
        problem: str | None = f"no answer within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        problem = str(error) or type(error).__name__
    else:
        problem = judge_answer(status, fields.get("etag"), digest)
    if problem is None:
        logger.info("the advertised metadata address answers", extra=facts(url=url))
        return True
    logger.warning(
        "the advertised metadata address does not answer as it should: %s",
        problem,
        extra=facts(url=url, reason=problem, hint=_HINT),
    )
    return False


def judge_answer(status: int, etag: str | None, digest: Digest) -> str | None:
    """What is wrong with the answer to a question for the file of ``digest``, or ``None``."""
    if status == 200 and etag == f'"{digest}"':
        return None
    if status == 200 and etag is not None and etag.startswith('"blake3:'):
        return f"it has another file there ({etag}): another worker answers"
    if status == 200:
        return "another service answers there"
    if status == 404:
        return "what answers there does not know the file (404): another worker or service"
    return f"it answers with status {status}"
