"""The handlers of ``/tokenize``, ``/detokenize`` and the two counts of prompt tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from muster.frontend.anthropic.chat import count_to_chat
from muster.frontend.anthropic.requests import CountRequest
from muster.frontend.api_error import ApiError
from muster.frontend.long_work import LongWork
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.chat import ChatApi
from muster.frontend.openai.requests import ChatRequest, decode
from muster.frontend.openai.route import LONG_BODY_BYTES, require_json
from muster.frontend.responses.requests import ResponsesRequest
from muster.frontend.responses.translate import to_chat
from muster.frontend.served_model import ServedModel
from muster.frontend.tokens.requests import (
    DetokenizeReply,
    DetokenizeRequest,
    TokenizeReply,
    TokenizeRequest,
)
from muster.http.exchange import Exchange
from muster.llm.conversation import Conversation

__all__ = ["TokenRoutes"]

_encode = msgspec.json.Encoder().encode
_read_tokenize = msgspec.json.Decoder(TokenizeRequest)
_read_detokenize = msgspec.json.Decoder(DetokenizeRequest)
_read_count = msgspec.json.Decoder(CountRequest)
_read_response = msgspec.json.Decoder(ResponsesRequest)

T = TypeVar("T")


class TokenRoutes:
    """The handlers. Long bodies are worked on in a thread, as on the generating routes.

    Args:
        table: The models.
        work: Works on long bodies.
    """

    def __init__(self, table: ModelTable, work: LongWork) -> None:
        self._table = table
        self._work = work
        self._chat = ChatApi()

    async def tokenize(self, exchange: Exchange) -> None:
        """``POST /tokenize``: the ids of a prompt or a conversation.

        Raises:
            MusterError: For a bad request, an unknown model, or a template that refuses.
        """
        request = decode(_read_tokenize, _body(exchange))
        _check_tokenize(request)
        if request.messages is not None:
            self._chat.check(ChatRequest(model="-", messages=request.messages, tools=request.tools))
        model = self._model(request.model)
        token_ids = await self._done(exchange, lambda: _tokenize(request, model))
        spellings = None
        if request.return_token_strs:
            find = model.preprocessor.tokenizer.find_text
            spellings = [find(token_id) or "" for token_id in token_ids]
        reply = TokenizeReply(
            count=len(token_ids),
            max_model_len=model.context_length,
            tokens=token_ids,
            token_strs=spellings,
        )
        exchange.respond(200, _encode(reply))

    async def detokenize(self, exchange: Exchange) -> None:
        """``POST /detokenize``: the text of ids.

        Raises:
            MusterError: For a bad request, an unknown model, or an id outside its vocabulary.
        """
        request = decode(_read_detokenize, _body(exchange))
        preprocessor = self._model(request.model).preprocessor
        size = preprocessor.tokenizer.vocab_size
        for position, token_id in enumerate(request.tokens):
            if token_id >= size:
                raise ApiError(
                    400,
                    f"Token {position} is {token_id}; the vocabulary ends at {size - 1}",
                    param="tokens",
                    slug="invalid_value",
                )
        text = await self._done(
            exchange, lambda: preprocessor.decode(request.tokens, skip_special_tokens=False)
        )
        exchange.respond(200, _encode(DetokenizeReply(prompt=text)))

    async def count_message(self, exchange: Exchange) -> None:
        """``POST /v1/messages/count_tokens``: the prompt's tokens, counted.

        Raises:
            MusterError: As ``/v1/messages`` would.
        """
        chat = count_to_chat(decode(_read_count, _body(exchange)))
        exchange.respond(200, _encode({"input_tokens": await self._count(exchange, chat)}))

    async def count_response(self, exchange: Exchange) -> None:
        """``POST /v1/responses/input_tokens``: the prompt's tokens, counted.

        Raises:
            MusterError: As ``/v1/responses`` would.
        """
        chat = to_chat(decode(_read_response, _body(exchange)))
        count = await self._count(exchange, chat)
        exchange.respond(200, _encode({"object": "response.input_tokens", "input_tokens": count}))

    async def _count(self, exchange: Exchange, chat: dict[str, Any]) -> int:
        api = self._chat
        request = decode(api.decoder, _encode(chat))
        api.check(request)
        model = self._model(request.model)
        prompts = await self._done(exchange, lambda: api.tokenize(request, model))
        return len(prompts[0])

    async def _done(self, exchange: Exchange, work: Callable[[], T]) -> T:
        if len(exchange.body) > LONG_BODY_BYTES:
            return await self._work.run(work)
        return work()

    def _model(self, name: str | None) -> ServedModel:
        if name is None:
            served = self._table.models()
            if len(served) != 1:
                raise ApiError(
                    400,
                    "`model` is missing, and there is not just one that could be meant",
                    param="model",
                    slug="invalid_value",
                )
            name = served[0].name
        return self._table.get(name)


def _body(exchange: Exchange) -> bytes:
    require_json(exchange)
    return exchange.body


def _check_tokenize(request: TokenizeRequest) -> None:
    if (request.prompt is None) == (request.messages is None):
        raise ApiError(
            400,
            "Either `prompt` or `messages` is needed, and not both",
            param="prompt",
            slug="invalid_value",
        )
    if request.chat_template is not None:
        raise ApiError(
            400,
            "`chat_template` is not supported: templates come with the model",
            param="chat_template",
            slug="unsupported_parameter",
        )
    if request.continue_final_message and request.add_generation_prompt:
        raise ApiError(
            400,
            "`continue_final_message` and `add_generation_prompt` cannot both be true",
            param="continue_final_message",
            slug="invalid_value",
        )


def _tokenize(request: TokenizeRequest, model: ServedModel) -> list[int]:
    preprocessor = model.preprocessor
    adding = request.add_special_tokens
    if request.messages is None:
        text = request.prompt or ""
        adding = True if adding is None else adding
    else:
        conversation = Conversation(
            messages=request.messages,
            tools=request.tools,
            documents=request.documents,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            template_kwargs=request.chat_template_kwargs or {},
        )
        text = preprocessor.render(conversation)
    if adding:
        return preprocessor.tokenizer.encode_batch((text,), add_special_tokens=True)[0]
    return preprocessor.encode(text)
