"""Serving endpoints: the ways requests come, the registry, health and the canary."""
