"""Whether a URL's host is a name, by the rules of international domain names Dynamo checks.

Ada, which parses our URLs, does not check that what follows ``xn--`` means something, nor how
right-to-left labels may be mixed with others. Which characters there are is for the tables of
``idna`` to say, which may be younger than Dynamo's.
"""

from __future__ import annotations

import unicodedata

from idna.core import IDNAError, check_bidi, check_initial_combiner, uts46_remap, valid_contextj

__all__ = ["is_host_name"]

_PREFIX = "xn--"
_RIGHT_TO_LEFT = ("R", "AL", "AN")
_JOINERS = ("\u200c", "\u200d")


def is_host_name(host: str) -> bool:
    """Whether ``host``, lower-case ASCII as a URL parser gives it, stands for a valid name."""
    if _PREFIX not in host:
        return True
    try:
        labels = [_decode(label) for label in host.split(".") if label]
        if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in "".join(labels)):
            for label in labels:
                check_bidi(label, check_ltr=True)
    except (IDNAError, UnicodeError):
        return False
    return True


def _decode(label: str) -> str:
    if not label.startswith(_PREFIX):
        return label
    code = label.removeprefix(_PREFIX).encode("ascii")
    text = code.decode("punycode")
    if text.isascii() or text.encode("punycode") != code:
        raise IDNAError(f"not the punycode of anything: {label}")
    if uts46_remap(text, std3_rules=False) != text:
        raise IDNAError(f"the punycode of what is spelled otherwise: {label}")
    check_initial_combiner(text)
    for position, char in enumerate(text):
        if char in _JOINERS and not valid_contextj(text, position):
            raise IDNAError(f"a joiner where it joins nothing: {label}")
    return text
