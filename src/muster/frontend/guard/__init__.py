"""Protection of the service: who may ask, how often, over what, and what waits when all is full.

What decides (keys, buckets, limits, access, the queue) is pure; ``service`` and ``watched`` do the
reading of files. A frontend without keys and limits has no guard at all: one attribute check.
"""
