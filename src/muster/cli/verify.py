"""``muster verify``: can this be published, fetched and loaded?"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.options import discovery_option, load_settings, run_loop
from muster.cli.table import printable
from muster.errors import ConfigError, DiscoveryError, MusterError

if TYPE_CHECKING:
    from muster.cli.verification import Check
    from muster.config.settings import Settings
    from muster.model.card import ModelDeploymentCard

__all__ = ["command"]


@click.command()
@click.argument("target", metavar="DIR|URL|CARD|PACK")
@click.option("--digest", help="Of the one file at URL: blake3:<hex>.")
@click.option("--name", help="DIR: what clients would call the model.")
@click.option(
    "--custom-jinja-template", type=click.Path(path_type=Path), help="DIR: a chat template."
)
@click.option(
    "--allow", "hosts", multiple=True, metavar="HOST",
    help="Host, address or network a card may send us to, or any; may be repeated.",
)  # fmt: skip
@click.option(
    "--root", "roots", multiple=True, type=click.Path(path_type=Path),
    help="Directory under which a card's local paths are believed; may be repeated.",
)  # fmt: skip
@click.option(
    "--model-path", type=click.Path(path_type=Path),
    help="Directory to take files from that a card's own location does not give.",
)  # fmt: skip
@discovery_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all checks.")
def command(
    *,
    target: str,
    digest: str | None,
    name: str | None,
    custom_jinja_template: Path | None,
    hosts: tuple[str, ...],
    roots: tuple[Path, ...],
    model_path: Path | None,
    discovery_backend: str | None,
    as_json: bool,
) -> int:
    """Check that a model can be served, check by check, as a frontend would find it.

    DIR is a model's directory: its card is made and its files are loaded. CARD is a file with a
    card or a registry's record (- is standard input): its files are fetched, verified and loaded.
    URL is that of a card, of one file with --digest, or of a worker's status server: then all cards
    of the registry whose files are there. PACK is a file of `muster pack`.

    The exit code is 0 if all is well, 1 if a check failed, 2 for wrong usage.
    """
    from muster.cli.verification import check_directory, check_pack, failed

    is_url = target.startswith(("http://", "https://"))
    if digest is not None and not is_url:
        raise ConfigError("--digest is for one file at a URL")
    settings = _settings(discovery_backend, hosts, roots)
    with tempfile.TemporaryDirectory(prefix="muster-verify-") as scratch:
        checks: Iterable[Check]
        if is_url:
            checks = _check_url(target, digest, settings, Path(scratch), model_path)
        elif target != "-" and Path(target).is_dir():
            checks = check_directory(
                Path(target), name or target, custom_jinja_template, settings.metadata
            )
        elif target != "-" and _begins_as_pack(target):
            checks = check_pack(target, Path(scratch))
        else:
            try:
                card = _read_card(target)
            except MusterError as error:
                checks = [failed("card", error)]
            else:
                checks = _check_card(card, settings, Path(scratch), model_path)
        return _tell(checks, target, as_json=as_json)


def _settings(
    discovery_backend: str | None, hosts: tuple[str, ...], roots: tuple[Path, ...]
) -> Settings:
    settings = load_settings(discovery__backend=discovery_backend, log__filter="off")
    return _believing(settings, hosts, tuple(root.absolute() for root in roots))


def _believing(
    settings: Settings, hosts: tuple[str, ...], roots: tuple[Path, ...] = ()
) -> Settings:
    """``settings`` that allow these hosts and directories too."""
    fetch = settings.fetch
    allowed = dataclasses.replace(fetch, allow=(*fetch.allow, *hosts), roots=(*fetch.roots, *roots))
    return dataclasses.replace(settings, fetch=allowed)


def _begins_as_pack(target: str) -> bool:
    from muster.model.pack.read import is_pack

    try:
        with Path(target).open("rb") as file:
            return is_pack(file.read(512))
    except OSError:
        return False  # reading it as a card says why


def _read_card(target: str) -> ModelDeploymentCard:
    from muster.cli.verify_fetch import MAX_CARD_BYTES, read_card
    from muster.errors import CardError

    try:
        if target == "-":
            text = sys.stdin.buffer.read(MAX_CARD_BYTES + 1)
        else:
            with Path(target).open("rb") as file:
                text = file.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise CardError(f"cannot read {target}: {error.strerror or error}") from error
    if len(text) > MAX_CARD_BYTES:
        raise CardError(f"{target} has more than {MAX_CARD_BYTES} bytes: it is no card")
    return read_card(text)


def _check_url(
    url: str, digest: str | None, settings: Settings, scratch: Path, model_path: Path | None
) -> Iterable[Check]:
    from muster.cli.verification import failed
    from muster.cli.verify_server import cards_served_at, get_card, host_of, is_base

    host = host_of(url)
    if host is None:
        raise ConfigError(f"{url!r} names no host")
    settings = _believing(settings, (host,))  # who names a server wants it asked
    if digest is not None:
        yield from _check_file(url, digest, settings, scratch)
        return
    try:
        if is_base(url):
            cards = run_loop(cards_served_at(url, settings))
        else:
            cards = [run_loop(get_card(url, settings.fetch))]
    except DiscoveryError as error:
        yield from _check_listed(url, error, settings, scratch)
        return
    except MusterError as error:
        yield failed("card", error)
        return
    for card in cards:
        yield from _check_card(card, settings, scratch, model_path)


def _check_file(url: str, digest: str, settings: Settings, scratch: Path) -> Iterable[Check]:
    from muster.cli.verification import check_fetched
    from muster.cli.verify_fetch import fetch_files
    from muster.digest import Digest
    from muster.errors import CardError
    from muster.model.checked_file import CheckedFile

    try:
        file = CheckedFile.at(url, Digest.parse(digest))
    except CardError as error:
        raise ConfigError(f"--digest: {error.message}") from error
    yield from check_fetched(run_loop(fetch_files([file], scratch, settings)))


def _check_listed(
    url: str, no_card: DiscoveryError, settings: Settings, scratch: Path
) -> Iterable[Check]:
    """Check the files a worker lists, where no card says which belong together."""
    from muster.cli.verification import Check, check_fetched, failed
    from muster.cli.verify_fetch import fetch_files
    from muster.cli.verify_server import listed_files

    try:
        files = run_loop(listed_files(url, settings))
    except MusterError:
        files = []
    if not files:
        yield failed("card", no_card)
        return
    told = f"{len(files)} files; what they make is not checked: {no_card.message}"
    yield Check(name="list", ok=True, message=told)
    yield from check_fetched(run_loop(fetch_files(files, scratch, settings)))


def _check_card(
    card: ModelDeploymentCard, settings: Settings, scratch: Path, model_path: Path | None
) -> Iterable[Check]:
    from muster.cli.verification import Check, check_fetched
    from muster.cli.verify_fetch import fetch_card

    yield Check(name="card", ok=True, message=f"{card.display_name}, mdcsum {card.mdcsum()}")
    yield from check_fetched(run_loop(fetch_card(card, scratch, settings, model_path)))


def _tell(checks: Iterable[Check], target: str, *, as_json: bool) -> int:
    """Print each check as it is made; the exit code."""
    import msgspec

    done = []
    for check in checks:
        done.append(check)
        if not as_json:
            word = (
                click.style("ok    ", fg="green") if check.ok else click.style("failed", fg="red")
            )
            code = "" if check.ok else f" ({check.code})"
            click.echo(f"{word}  {printable(check.name)}{code}: {printable(check.message)}")
    good = all(check.ok for check in done)
    if as_json:
        told = {"target": target, "ok": good, "checks": msgspec.to_builtins(done)}
        click.echo(json.dumps(told))
    return 0 if good else 1
