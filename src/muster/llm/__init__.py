"""Everything between an OpenAI request and the engine that is not HTTP.

Templates, tokenizers, detokenizers, stops, and the protocol engines speak.
"""
