"""A model's files, loaded: everything the frontend needs to turn requests into tokens and back.

Takes plain paths, so that it does not matter whether they come from a cache of fetched files or
from a model directory. Loading reads files and takes tenths of a second: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from muster.clock import SYSTEM_CLOCK, Clock
from muster.errors import CardError, InvalidArgument
from muster.llm.conversation import Conversation
from muster.llm.detokenizer import Detokenizer
from muster.llm.generation import GenerationSettings, read_generation_settings
from muster.llm.json_file import read_json_object
from muster.llm.prompt_encoder import PromptEncoder, find_boundaries
from muster.llm.template import ChatTemplate, TemplateLimits
from muster.llm.template_sources import find_template_sources, special_tokens_of
from muster.llm.tokenizer import Tokenizer
from muster.llm.tokenizer_pool import TokenizerPool

__all__ = ["ModelFiles", "Preprocessor"]


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's files are. Their names need not be those of a model directory.

    Attributes:
        tokenizer: tokenizer.json, a tiktoken file or tokenizer.model; the only one that is required.
        config: config.json.
        tokenizer_config: tokenizer_config.json.
        chat_template: chat_template.jinja, chat_template.json or a custom template; overrides the
            one in tokenizer_config.json.
        generation_config: generation_config.json.
        special_tokens_map: special_tokens_map.json.
    """

    tokenizer: Path
    config: Path | None = None
    tokenizer_config: Path | None = None
    chat_template: Path | None = None
    generation_config: Path | None = None
    special_tokens_map: Path | None = None

    @classmethod
    def of_directory(cls, directory: Path, *, custom_template: Path | None = None) -> ModelFiles:
        """The files of a model directory, by their usual names.

        Raises:
            CardError: If there is no tokenizer.json, tiktoken.model, ``*.tiktoken`` or
                tokenizer.model.
        """

        def find(*names: str) -> Path | None:
            return next((directory / name for name in names if (directory / name).is_file()), None)

        ranks = sorted(path.name for path in directory.glob("*.tiktoken"))
        tokenizer = find("tokenizer.json", "tiktoken.model", *ranks, "tokenizer.model")
        if tokenizer is None:
            raise CardError(
                f"{directory} has no tokenizer.json, nor a tiktoken file or a tokenizer.model"
            )
        return cls(
            tokenizer=tokenizer,
            config=find("config.json"),
            tokenizer_config=find("tokenizer_config.json"),
            chat_template=custom_template or find("chat_template.jinja", "chat_template.json"),
            generation_config=find("generation_config.json"),
            special_tokens_map=find("special_tokens_map.json"),
        )


class Preprocessor:
    """A loaded model's template, tokenizer and generation settings. Immutable; any thread may use it.

    Make one with ``load``.

    Attributes:
        tokenizer: The tokenizer.
        template: The chat template, or ``None``: then the model serves completions only.
        generation: End-of-sequence ids and sampling defaults.
        context_length: Tokens a prompt and its reply may have together; 0 if not known.
    """

    __slots__ = ("_encoder", "context_length", "generation", "template", "tokenizer")

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        generation: GenerationSettings,
        context_length: int,
        encoder: PromptEncoder | None = None,
    ) -> None:
        self._encoder = encoder or PromptEncoder(tokenizer.encode_batch, ())
        self.tokenizer = tokenizer
        self.template = template
        self.generation = generation
        self.context_length = context_length

    @classmethod
    def load(
        cls,
        files: ModelFiles,
        *,
        context_length: int,
        limits: TemplateLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tokenizers: TokenizerPool | None = None,
    ) -> Preprocessor:
        """Load a model's files.

        Args:
            files: Where they are.
            context_length: See above.
            limits: Bounds on what the template may do.
            clock: What the template takes for today.
            tokenizers: Where models share tokenizers, if they do.

        Raises:
            CardError: If one cannot be read or makes no sense; the message says which.
        """
        tokenizer_config = _read(files.tokenizer_config)
        special_tokens_map = _read(files.special_tokens_map)
        config = _read(files.config)
        model_type = config.get("model_type")
        load = Tokenizer.load if tokenizers is None else tokenizers.load
        tokenizer = load(
            files.tokenizer,
            tokenizer_config=tokenizer_config,
            model_type=model_type if isinstance(model_type, str) else None,
        )
        sources = find_template_sources(tokenizer_config, files.chat_template)
        return cls(
            tokenizer=tokenizer,
            template=_load_template(
                sources,
                special_tokens_of(tokenizer_config, special_tokens_map),
                where=files.chat_template or files.tokenizer_config,
                limits=limits,
                clock=clock,
            ),
            generation=read_generation_settings(
                config=config,
                generation_config=_read(files.generation_config),
                tokenizer_config=tokenizer_config,
                special_tokens_map=special_tokens_map,
                find_token=tokenizer.find_token,
                special_tokens=tokenizer.special_tokens,
            ),
            context_length=context_length,
            encoder=_prompt_encoder(tokenizer, sources),
        )

    @property
    def serves_chat(self) -> bool:
        """Whether the model has a chat template."""
        return self.template is not None

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ids that end a reply."""
        return self.generation.eos_token_ids

    def render(self, conversation: Conversation) -> str:
        """The prompt for a conversation (see ``ChatTemplate.render``).

        Raises:
            InvalidArgument: If the model has no chat template, or the template refuses.
        """
        if self.template is None:
            raise InvalidArgument(
                "the model has no chat template",
                hint="use /v1/completions, or publish the model with a chat template",
            )
        return self.template.render(conversation)

    def encode(self, text: str) -> list[int]:
        """The ids of a prompt (see ``Tokenizer.encode``); what prompts share is remembered."""
        return self._encoder.encode(text)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids (see ``Tokenizer.decode``)."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def new_detokenizer(self, *, skip_special_tokens: bool = True) -> Detokenizer:
        """A decoding state for one stream."""
        return self.tokenizer.new_detokenizer(skip_special_tokens=skip_special_tokens)


_FEW = 64
"""So many tokens can be looked for in every prompt without slowing it down."""


def _prompt_encoder(tokenizer: Tokenizer, sources: dict[str, str]) -> PromptEncoder:
    """An encoder that cuts prompts at the added tokens that templates write.

    Vocabularies with hundreds of placeholders are usual: then only what the templates spell is
    looked for.
    """
    added = tokenizer.added_tokens()
    candidates = [token.text for token in added]
    if len(candidates) > _FEW:
        candidates = [
            text for text in candidates if any(text in source for source in sources.values())
        ]
    return PromptEncoder(tokenizer.encode_batch, find_boundaries(candidates, added))


def _read(path: Path | None) -> dict[str, Any]:
    return {} if path is None else read_json_object(path)


def _load_template(
    sources: dict[str, str],
    special_tokens: dict[str, str],
    *,
    where: Path | None,
    limits: TemplateLimits | None,
    clock: Clock,
) -> ChatTemplate | None:
    if not sources:
        return None
    try:
        return ChatTemplate(sources, special_tokens, limits=limits, clock=clock)
    except CardError as error:
        raise CardError(f"{where}: {error.message}", hint=error.hint) from error
