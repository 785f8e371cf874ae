"""``muster model``: one model of the registry, looked at closely."""

from __future__ import annotations

import click

from muster.cli.lazy_group import LazyGroup

__all__ = ["command"]


@click.group(
    cls=LazyGroup,
    modules={
        "show": ("model_show", "Show a model's cards as they are in the registry."),
        "why": ("model_why", "Say why a model is served, or is not, and what to do."),
        "diff": ("model_diff", "Say which files and keys differ between a model's replicas."),
    },
)
def command() -> None:
    """One model: what is registered, why it is not served, how its replicas differ."""
