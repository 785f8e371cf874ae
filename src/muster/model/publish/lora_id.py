"""The number an engine knows a LoRA adapter by."""

from __future__ import annotations

from muster.digest import Digest

__all__ = ["lora_name_to_id"]


def lora_name_to_id(lora_name: str) -> int:
    """A number from 1 to 2^31 - 1 for an adapter's name, the same on every host.

    The low 31 bits of the first eight bytes, big-endian, of the name's BLAKE3 digest, as Dynamo
    1.6.1 has it. Different names may share one. Engines take 0 for no adapter, so 0 becomes 1.
    """
    first = int(Digest.of(lora_name.encode("utf-8", "surrogatepass")).hex[:16], 16)
    return first & 0x7FFF_FFFF or 1
