"""``muster frontend``: serve the OpenAI API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.cli.guard_options import guard_options
from muster.cli.options import load_settings, registry_options, run_loop, tls_options
from muster.config.processes import process_count

if TYPE_CHECKING:
    from muster.frontend.server import Frontend

__all__ = ["command"]


@click.command()
@click.option("--http-host", help="Address to listen on.  [default: 0.0.0.0]")
@click.option("--http-port", type=int, help="Port to listen on; 0 picks one.  [default: 8000]")
@click.option(
    "--processes", metavar="N", callback=lambda _context, _option, text: _count(text),
    help="How many processes share the port; auto for one a CPU.  [default: 1]",
)  # fmt: skip
@click.option(
    "--router-mode", metavar="MODE",
    help="How an instance is chosen: round-robin, random, power-of-two, least-loaded, "
    "device-aware-weighted or direct.  [default: round-robin]",
)  # fmt: skip
@click.option(
    "--migration-limit", type=int,
    help="How many further instances a request may go to whose instance is lost.  [default: 3]",
)  # fmt: skip
@click.option(
    "--migration-max-seq-len", type=int,
    help="Longest prompt and answer that are continued elsewhere.  [default: any]",
)  # fmt: skip
@click.option(
    "--model-path", type=click.Path(path_type=Path),
    help="Directory to take files from that a card's own location does not give.",
)  # fmt: skip
@click.option("--namespace", help="Serve models of this namespace only.")
@click.option("--namespace-prefix", help="Serve models of namespaces that start so.")
@click.option(
    "--require-model",
    "required",
    multiple=True,
    metavar="NAME",
    help="A model without which /health is 503; may be repeated.",
)
@click.option("--cohort-policy", help="Whose card serves when replicas differ: first or majority.")
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="NAME=DIGEST",
    help="The card (mdcsum or identity) that alone may serve a model; may be repeated.",
)
@click.option(
    "--fetch-allow",
    "allow",
    multiple=True,
    metavar="HOST",
    help="A host or network to fetch files from besides the card's instance; may be repeated.",
)
@click.option(
    "--fetch-root", "roots", multiple=True, type=click.Path(path_type=Path),
    help="A directory under which a card's local paths are believed; may be repeated.",
)  # fmt: skip
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Directory of the file cache.")
@guard_options
@registry_options
@tls_options
def command(
    *,
    http_host: str | None,
    http_port: int | None,
    processes: int | None,
    router_mode: str | None,
    migration_limit: int | None,
    migration_max_seq_len: int | None,
    model_path: Path | None,
    namespace: str | None,
    namespace_prefix: str | None,
    required: tuple[str, ...],
    cohort_policy: str | None,
    pins: tuple[str, ...],
    allow: tuple[str, ...],
    roots: tuple[Path, ...],
    cache_dir: Path | None,
    discovery_backend: str | None,
    request_plane: str | None,
    **others: Any,
) -> None:
    """Find models in the registry, fetch and verify their files, and serve the OpenAI API."""
    from muster.cli.fetch_progress import FetchBars
    from muster.frontend.serve import serve_frontend

    settings = load_settings(
        http__host=http_host,
        http__port=http_port,
        processes__count=processes,
        http__router_mode=router_mode,
        http__migration_limit=migration_limit,
        http__migration_max_seq_len=migration_max_seq_len,
        http__model_path=model_path,
        http__namespace=namespace,
        http__namespace_prefix=namespace_prefix,
        http__require_models=required or None,
        http__cohort_policy=cohort_policy,
        http__pins=pins or None,
        fetch__allow=allow or None,
        fetch__roots=roots or None,
        cache__directory=cache_dir,
        discovery__backend=discovery_backend,
        request_plane__plane=request_plane,
        **others,
    )

    def say_ready(port: int, admin_port: int) -> None:
        scheme = "https" if settings.guard.tls_certificate is not None else "http"
        click.echo(f"listening on {scheme}://{settings.http.host}:{port}", err=True)
        if admin_port:
            click.echo(f"admin routes on http://{settings.guard.admin_host}:{admin_port}", err=True)

    if settings.processes.count > 1:
        from muster.frontend.processes.supervisor import supervise

        child = [sys.executable, "-m", "muster.cli.frontend_child"]
        run_loop(supervise(settings, child, say_ready))
        return

    def ready(frontend: Frontend) -> None:
        say_ready(frontend.port, frontend.admin_port)

    with FetchBars() as bars:
        run_loop(serve_frontend(settings, os.environ, ready, bars.update))


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return process_count(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number nor auto") from None
