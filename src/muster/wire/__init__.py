"""The request plane: send a request to an instance, get a stream of items back.

Pure parts (no I/O, no asyncio): ``frames`` (bytes to messages and back), ``control`` (what the
messages say), ``errors`` (failures on the wire and as exceptions). Transports are folders beside
them: ``tcp``.
"""
