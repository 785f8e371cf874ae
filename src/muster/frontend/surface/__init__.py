"""Other APIs over the chat path: their requests become chat requests, and its replies theirs.

A surface has pure translations and nothing else: limits, templates, routing, stops, tool calls and
cancellation are those of ``/v1/chat/completions``, whose wire format is all it depends on.
"""
