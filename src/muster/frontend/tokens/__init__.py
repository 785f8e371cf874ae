"""Counting and showing tokens without an engine: ``/tokenize``, ``/detokenize``, the two counts."""
