"""Muster: serve language models from many processes and machines."""

from muster._version import __version__

__all__ = ["__version__"]
