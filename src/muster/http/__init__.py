"""HTTP/1.1 for servers, as thin as it can be: bytes in, one request at a time to a handler, bytes out.

Parsing is llhttp's (through ``httptools``); what is here is the state around it: limits, deadlines,
keep-alive, pipelining, flow control and telling a handler at once that its client has gone. It
knows nothing of models or of the API. Why not aiohttp's server: see ``docs/decisions/0004-http-server.md``.
"""
