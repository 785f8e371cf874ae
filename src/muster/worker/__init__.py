"""Serve one engine: its card, its endpoint, its end in order."""
