"""The request plane over TCP.

A caller keeps pipelined connections to workers (``pool``) and listens for their connections back
(``call_home``); a worker listens for requests (``server``) and opens one connection per response
(``responder``). Every wait has a deadline, kept by one ``sweep`` a process.
"""
