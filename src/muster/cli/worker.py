"""``muster worker``: serve an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.options import load_settings, registry_options, run_loop, tls_options
from muster.errors import ConfigError

if TYPE_CHECKING:
    from muster.llm.embedding import Embedder
    from muster.llm.protocol import Engine
    from muster.model.model_type import ModelType
    from muster.worker.serve import WorkerReport

__all__ = ["command"]


@click.command()
@click.option("--model-path", required=True, help="The model's directory, or its hub name.")
@click.option("--model-name", help="What clients call it; by default the path as given.")
@click.option(
    "--engine", type=click.Choice(["mock", "echo"]), default="mock", show_default=True,
    help="What answers requests.",
)  # fmt: skip
@click.option(
    "--endpoint", help="namespace.component.endpoint.  [default: <namespace>.backend.generate]"
)
@click.option("--namespace", envvar="DYN_NAMESPACE", default="dynamo", show_default=True,
              help="Namespace of the default endpoint.")  # fmt: skip
@click.option("--system-port", type=int, help="Port of the status server; by default a free one.")
@click.option("--endpoint-types", default="chat,completions", show_default=True,
              help="Surfaces to serve: chat, completions; or embeddings alone.")  # fmt: skip
@click.option("--model-alias", "aliases", multiple=True, help="A further name; may be repeated.")
@click.option("--max-model-len", type=click.IntRange(1), help="Context length to serve.")
@click.option("--block-size", type=click.IntRange(1), help="Tokens in a block of the cache.")
@click.option(
    "--custom-jinja-template", type=click.Path(path_type=Path), help="A chat template to use."
)
@click.option("--speedup-ratio", type=click.FloatRange(0), default=1.0, show_default=True,
              help="mock: how many times faster than the model of its timing; 0: no waiting.")  # fmt: skip
@click.option("--decode-speedup-ratio", type=click.FloatRange(0), default=1.0, show_default=True,
              help="mock: a further factor for tokens after the first.")  # fmt: skip
@click.option("--delay-ms", type=click.FloatRange(0), default=0.0, show_default=True,
              help="echo: milliseconds a token takes.")  # fmt: skip
@click.option("--embedding-dimensions", type=click.IntRange(1), default=256, show_default=True,
              help="mock, with embeddings: length of the vectors.")  # fmt: skip
@registry_options
@tls_options
def command(
    *,
    model_path: str,
    model_name: str | None,
    engine: str,
    endpoint: str | None,
    namespace: str,
    system_port: int | None,
    endpoint_types: str,
    aliases: tuple[str, ...],
    max_model_len: int | None,
    block_size: int | None,
    custom_jinja_template: Path | None,
    speedup_ratio: float,
    decode_speedup_ratio: float,
    delay_ms: float,
    embedding_dimensions: int,
    discovery_backend: str | None,
    request_plane: str | None,
    **tls: Path | bool | None,
) -> None:
    """Serve an engine: register it, serve its model's metadata, answer requests until stopped."""
    from muster.model.model_type import ModelType
    from muster.worker.engines.timing import Timing
    from muster.worker.serve import WorkerOptions, serve_worker

    flags = {"discovery__backend": discovery_backend, "request_plane__plane": request_plane, **tls}
    surfaces = _surfaces(endpoint_types, engine)
    settings = load_settings(system__port=system_port, **flags)
    if settings.origins["system.port"] == "default":
        settings = load_settings(system__port=0, **flags)
    options = WorkerOptions(
        model_path=model_path,
        model_name=model_name,
        endpoint=endpoint or f"{namespace}.backend.generate",
        model_type=surfaces,
        kv_cache_block_size=block_size,
        context_length=max_model_len,
        custom_template=custom_jinja_template,
        aliases=aliases,
    )

    def load_engine(directory: Path) -> Engine | Embedder:
        timing = Timing(speedup_ratio=speedup_ratio, decode_speedup_ratio=decode_speedup_ratio)
        if surfaces == ModelType.Embedding:
            from muster.worker.engines.mock_embedder import MockEmbedder, MockEmbedderSettings

            return MockEmbedder(
                MockEmbedderSettings(
                    dimensions=embedding_dimensions, timing=timing, context_length=max_model_len
                )
            )
        if engine == "echo":
            from muster.worker.engines.echo import EchoEngine, EchoSettings

            return EchoEngine(EchoSettings(delay_s=delay_ms / 1000))
        from muster.worker.engines.mock import MockEngine, MockSettings

        tokenizer = directory / "tokenizer.json"
        return MockEngine(
            tokenizer if tokenizer.is_file() else None,
            MockSettings(timing=timing, context_length=max_model_len),
        )

    run_loop(serve_worker(options, settings, load_engine, _say_ready))


def _surfaces(text: str, engine: str) -> ModelType:
    from muster.model.model_type import ModelType

    known = {
        "chat": ModelType.Chat,
        "completions": ModelType.Completions,
        "embeddings": ModelType.Embedding,
    }
    surfaces = ModelType(0)
    for word in text.split(","):
        if word.strip() not in known:
            raise ConfigError(
                f"unknown endpoint type {word.strip()!r} in --endpoint-types {text!r}",
                hint=f"known are {', '.join(known)}",
            )
        surfaces |= known[word.strip()]
    if surfaces & ModelType.Embedding and (surfaces != ModelType.Embedding or engine != "mock"):
        raise ConfigError(
            f"--endpoint-types {text!r} does not go with the engine {engine!r}",
            hint="the mock embeds, and does nothing else then; the echo does not",
        )
    return surfaces


def _say_ready(report: WorkerReport) -> None:
    published = report.publication
    where = (
        f"{published.files_served} files at {report.status_url}"
        if published.files_served
        else "files not served"
    )
    surprises = sum(left.reason.is_surprise for left in published.left_out)
    stay = f", {surprises} left out" if surprises and published.files_served else ""
    click.echo(
        f"serving {published.card.display_name!r} as instance {report.instance_id:x} "
        f"({where}{stay})",
        err=True,
    )
