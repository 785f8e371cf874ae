"""Engines a worker can serve: one file each. The contract is ``muster.llm.protocol.Engine``."""
