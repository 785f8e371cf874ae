"""Make a card of a model's directory."""

from __future__ import annotations

import os
from pathlib import Path

from muster.errors import CardError, ContentError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.context_length import find_context_length
from muster.model.slot import Slot, SlotKind
from muster.names import slugify

__all__ = ["load_card"]

_Directory = str | os.PathLike[str]


def load_card(
    directory: _Directory, name: str, *, custom_template_path: _Directory | None = None
) -> ModelDeploymentCard:
    """The card of the model in ``directory``, under ``name``. Blocks: it hashes the files.

    Each typed slot gets the file Dynamo 1.6.1 takes for it, with the path spelled as ``directory``
    is. A directory with ``params.json`` but no ``config.json`` is a Mistral one: its slots stay
    empty. Block size, surfaces and worker type are for the caller to set, and extra files to add.

    Args:
        directory: The model's directory.
        name: What to call the model; may be anything.
        custom_template_path: A chat template to use instead of the model's own.

    Raises:
        CardError: If the directory is none, a required file is missing, or one cannot be read or
            says nonsense about the context length.
    """
    if not Path(directory).exists():
        raise CardError(f"Model path does not exist: {os.fspath(directory)}")
    if not Path(directory).is_dir():
        raise CardError(f"Model path is not a directory: {os.fspath(directory)}")
    try:
        return _load(directory, name, custom_template_path)
    except ContentError as error:
        raise CardError(error.message, hint=error.hint) from error


def _load(directory: _Directory, name: str, custom: _Directory | None) -> ModelDeploymentCard:
    has_config = _exists(directory, "config.json")
    length = find_context_length(directory, has_config=has_config)
    if not has_config and _exists(directory, "params.json"):
        return ModelDeploymentCard(
            display_name=name, slug=slugify(name), architectural_max_context_length=length
        )
    return ModelDeploymentCard(
        display_name=name,
        slug=slugify(name),
        model_info=_model_info(directory),
        tokenizer=_tokenizer(directory),
        prompt_formatter=_if_readable(
            SlotKind.HF_TOKENIZER_CONFIG_JSON, directory, "tokenizer_config.json"
        ),
        chat_template_file=_chat_template(directory, custom),
        gen_config=_if_readable(
            SlotKind.HF_GENERATION_CONFIG_JSON, directory, "generation_config.json"
        ),
        architectural_max_context_length=length,
    )


def _model_info(directory: _Directory) -> Slot:
    try:
        return _slot(SlotKind.HF_CONFIG_JSON, directory, "config.json")
    except ContentError as error:
        raise CardError(
            f"unable to extract config.json from directory {os.fspath(directory)}: {error.message}",
            hint="give the directory that holds the model's config.json",
        ) from error


def _tokenizer(directory: _Directory) -> Slot | None:
    if _exists(directory, "tokenizer.json"):
        return _slot(SlotKind.HF_TOKENIZER_JSON, directory, "tokenizer.json")
    if _exists(directory, "tiktoken.model"):
        return _slot(SlotKind.TIK_TOKEN_MODEL, directory, "tiktoken.model")
    try:
        names = sorted(name for name in os.listdir(directory) if _is_tiktoken(name))  # noqa: PTH208 - names, as they are spelled
    except OSError as error:
        raise CardError(f"Cannot list {os.fspath(directory)}: {error.strerror}") from error
    if len(names) > 1:
        raise CardError(
            f"Multiple .tiktoken files found in {os.fspath(directory)}: {names}. "
            "Cannot determine which to use.",
            hint="keep one of them, or name it tiktoken.model",
        )
    return _slot(SlotKind.TIK_TOKEN_MODEL, directory, names[0]) if names else None


def _is_tiktoken(name: str) -> bool:
    return name.endswith(".tiktoken") and name != ".tiktoken"


def _chat_template(directory: _Directory, custom: _Directory | None) -> Slot | None:
    if custom is not None:
        if not Path(custom).exists():
            raise CardError(f"Custom template file does not exist: {os.fspath(custom)}")
        return Slot(SlotKind.HF_CHAT_TEMPLATE, CheckedFile.from_disk(custom), is_custom=True)
    for kind, name in (
        (SlotKind.HF_CHAT_TEMPLATE, "chat_template.jinja"),
        (SlotKind.HF_CHAT_TEMPLATE_JSON, "chat_template.json"),
    ):
        if _exists(directory, name):
            try:
                return _slot(kind, directory, name)
            except ContentError as error:
                raise CardError(f"Failed to load {name}: {error.message}") from error
    return None


def _if_readable(kind: SlotKind, directory: _Directory, name: str) -> Slot | None:
    try:
        return _slot(kind, directory, name)
    except ContentError:
        return None


def _slot(kind: SlotKind, directory: _Directory, name: str) -> Slot:
    return Slot(kind, CheckedFile.from_disk(_join(directory, name)))


def _exists(directory: _Directory, name: str) -> bool:
    return Path(_join(directory, name)).exists()


def _join(directory: _Directory, name: str) -> str:
    return os.path.join(directory, name)  # noqa: PTH118 - a Path would not keep the spelling
