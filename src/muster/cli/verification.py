"""The checks of ``muster verify``: each says whether it passed, and what was found or is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from muster.errors import MusterError

if TYPE_CHECKING:
    from muster.cli.verify_fetch import Fetched
    from muster.config.settings import MetadataSettings
    from muster.llm.preprocessor import ModelFiles, Preprocessor
    from muster.model.card import ModelDeploymentCard
    from muster.model.fetch.resolved import ResolvedCard

__all__ = ["Check", "check_directory", "check_fetched", "check_pack", "failed"]

_CODE_FILE = "code_file"
"""Reason code of an extra file left out because it is code."""
_CHAT = [{"role": "user", "content": "Say something about the sea."}]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check. ``code`` is the reason why it failed, or why a file is rightly left out."""

    name: str
    ok: bool
    code: str = ""
    message: str = ""


def failed(name: str, error: MusterError) -> Check:
    """The check that ``error`` ended."""
    return Check(name=name, ok=False, code=error.code, message=error.message)


def check_directory(
    directory: Path, name: str, custom_template: Path | None, settings: MetadataSettings
) -> Iterator[Check]:
    """Whether the model in ``directory`` can be published, with its files, and loaded. Blocks."""
    from muster.model.pack.contents import survey_model
    from muster.model.publish.inventory import check_links

    try:
        contents = survey_model(directory, name, custom_template=custom_template, settings=settings)
        check_links(contents.card, directory)
    except MusterError as error:
        yield failed("card", error)
        return
    manifest = contents.manifest
    staying = f", {len(manifest.left_out)} others stay" if manifest.left_out else ""
    yield _passed("card", f"{len(manifest.files)} files{staying}; identity {manifest.identity}")
    yield from _load(contents.card, _special_tokens(directory))


def check_fetched(fetched: Fetched) -> Iterator[Check]:
    """Whether a card's files came and make a model. Blocks."""
    for file in fetched.files:
        yield _passed(f"file {file.name}", f"{file.size_bytes} bytes, {file.digest}")
    for left in fetched.left_out:
        name = left.name or str(left.digest)
        # A frontend serves the model without code, and means to.
        ok = left.code == _CODE_FILE
        yield Check(name=f"file {name}", ok=ok, code=left.code, message=left.message)
    if fetched.error is not None:
        yield failed("files", fetched.error)
    if fetched.resolved is not None:
        yield from _load_resolved(fetched.resolved)


def check_pack(path: str, scratch: Path) -> Iterator[Check]:
    """Whether the pack at ``path`` is whole and makes a model; unpacks it below ``scratch``. Blocks."""
    from muster.cli.pack_file import open_pack
    from muster.model.pack.unpack import unpack_into

    directory = scratch / "unpacked"
    try:
        with open_pack(path) as reader:
            unpack_into(reader, directory)
            manifest = reader.manifest
    except MusterError as error:
        yield failed("pack", error)
        return
    count = len(manifest.members())
    yield _passed("pack", f"{manifest.model}: {count} files; identity {manifest.identity}")
    card = manifest.card.replace_files(lambda file: file.with_dir(directory))
    yield from _load(card, _special_tokens(directory))


def _special_tokens(directory: Path) -> Path | None:
    path = directory / "special_tokens_map.json"
    return path if path.is_file() else None


def _load_resolved(resolved: ResolvedCard) -> Iterator[Check]:
    yield from _load(resolved.card, resolved.find_file("special_tokens_map.json"))


def _load(card: ModelDeploymentCard, special_tokens_map: Path | None) -> Iterator[Check]:
    """Load what a frontend loads, and use it once."""
    from muster.llm.preprocessor import Preprocessor

    try:
        loaded = Preprocessor.load(
            _model_files(card, special_tokens_map), context_length=card.context_length
        )
    except MusterError as error:
        yield failed("load", error)
        return
    length = f"{card.context_length} tokens" if card.context_length else "unknown"
    yield _passed("load", f"context length {length}")
    try:
        yield _passed("chat", _use(loaded))
    except MusterError as error:
        yield failed("chat", error)


def _use(loaded: Preprocessor) -> str:
    """Render and encode a short chat, or encode a text if there is no template."""
    from muster.llm.conversation import Conversation

    if not loaded.serves_chat:
        count = len(loaded.encode(_CHAT[0]["content"]))
        return f"no chat template, completions only; a short text takes {count} tokens"
    prompt = loaded.render(Conversation(messages=_CHAT))
    return f"a short chat takes {len(loaded.encode(prompt))} tokens"


def _model_files(card: ModelDeploymentCard, special_tokens_map: Path | None) -> ModelFiles:
    from muster.errors import CardError
    from muster.llm.preprocessor import ModelFiles

    paths = [
        Path(slot.file.path) if slot is not None and slot.file.path is not None else None
        for slot in (
            card.tokenizer,
            card.model_info,
            card.prompt_formatter,
            card.chat_template_file,
            card.gen_config,
        )
    ]
    tokenizer, config, tokenizer_config, template, generation = paths
    if tokenizer is None:
        raise CardError(
            f"the card of {card.display_name!r} names no tokenizer",
            hint="the model's directory needs a tokenizer.json",
        )
    return ModelFiles(
        tokenizer=tokenizer,
        config=config,
        tokenizer_config=tokenizer_config,
        chat_template=template,
        generation_config=generation,
        special_tokens_map=special_tokens_map,
    )


def _passed(name: str, message: str) -> Check:
    return Check(name=name, ok=True, message=message)
