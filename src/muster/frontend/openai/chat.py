"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
import time

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.http.exchange import Exchange
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai import prepare
from muster.frontend.openai.frames import ChatFrames
from muster.frontend.openai.intake import LONG_BODY_BYTES, engine_id, prepare_runs, read_request
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_chat
from muster.frontend.openai.reply import ChatChoice, ChatLogprobs, ChatMessage, ChatReply
from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openai.respond import answer
from muster.frontend.openai.scores import chat_logprobs
from muster.frontend.served_model import ServedModel
from muster.llm.conversation import Conversation

__all__ = ["ChatRoute"]

_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.Encoder().encode


class ChatRoute:
    """The handler.

    Args:
        table: The models.
        metrics: Where requests are counted.
    """

    endpoint = "chat_completions"

    def __init__(self, table: ModelTable, metrics: FrontendMetrics) -> None:
        self._table = table
        self._metrics = metrics
        self._dialect = ChatDialect()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one chat request.

        Raises:
            MusterError: What went wrong before anything was sent.
        """
        with self._metrics.refusals(self.endpoint):
            request = read_request(exchange, _decoder)
            model = self._table.get(request.model)
        stream = bool(request.stream)
        with self._metrics.start(model.name, self.endpoint, stream=stream) as meter:
            check_chat(request)
            if not model.chat:
                raise ApiError(
                    400,
                    f"The model `{model.name}` does not take chat requests",
                    param="model",
                    slug="unsupported_operation",
                )
            job = await self._prepare(exchange, request, model)
            await answer(exchange, job, self._dialect, meter)

    async def _prepare(self, exchange: Exchange, request: ChatRequest, model: ServedModel) -> Job:
        if len(exchange.body) > LONG_BODY_BYTES:
            token_ids = await asyncio.to_thread(_tokenize, request, model)
        else:
            token_ids = _tokenize(request, model)
        scoring = prepare.chat_scoring(request)
        engine_request = prepare.chat_request(request, model, token_ids, scoring)
        request_id = engine_id(exchange)
        return Job(
            model=model,
            runs=await prepare_runs(model, [engine_request], n=request.n or 1),
            scoring=scoring,
            request_id=request_id,
            reply_id=f"chatcmpl-{request_id}",
            created=int(time.time()),
            stream=bool(request.stream),
            options=request.stream_options,
        )


def _tokenize(request: ChatRequest, model: ServedModel) -> list[int]:
    conversation = Conversation(
        messages=request.messages,
        tools=None if request.tool_choice == "none" else request.tools,
        documents=request.documents,
        add_generation_prompt=request.add_generation_prompt,
        continue_final_message=bool(request.continue_final_message),
        reasoning_effort=request.reasoning_effort,
        template_kwargs={
            **(request.chat_template_args or {}),
            **(request.chat_template_kwargs or {}),
        },
    )
    text = model.preprocessor.render(conversation)
    return model.preprocessor.encode(text)


class ChatDialect:
    """Replies of the chat API."""

    def frames(self, job: Job) -> ChatFrames:
        """The builder of the stream's events."""
        return ChatFrames(job.reply_id, job.model.name, job.created)

    def logprobs(self, job: Job, choice: Choice, text_before: int) -> ChatLogprobs | None:
        """The choice's new scores."""
        if job.scoring is None:
            return None
        token_bytes = job.model.preprocessor.tokenizer.token_bytes
        return chat_logprobs(choice.take_scores(), top=job.scoring.top, token_bytes=token_bytes)

    def reply(self, job: Job) -> bytes:
        """The whole reply."""
        choices = [
            ChatChoice(
                choice.index,
                ChatMessage(choice.take_text()),
                choice.finish_reason or "stop",
                self.logprobs(job, choice, 0),
            )
            for run in job.runs
            for choice in run.choices
        ]
        return _encode(ChatReply(job.reply_id, choices, job.created, job.model.name, job.usage()))
