"""The dashboard: what a frontend knows, as a page and as a stream of changes."""
