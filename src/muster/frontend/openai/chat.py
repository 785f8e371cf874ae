"""``POST /v1/chat/completions``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from muster.frontend.choice import Choice
from muster.frontend.openai import prepare
from muster.frontend.openai.frames import ChatFrames
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_chat
from muster.frontend.openai.prepare import Scoring
from muster.frontend.openai.reading import Reading
from muster.frontend.openai.reply import ChatChoice, ChatLogprobs, ChatMessage, ChatReply
from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openai.scores import chat_logprobs
from muster.frontend.openai.tools import check_tools, forced_call_grammar, reply_format
from muster.frontend.served_model import ServedModel
from muster.llm.conversation import Conversation
from muster.llm.protocol import EngineRequest

__all__ = ["ChatApi"]

PROMPT_END_TOKENS = 24
"""So many of a prompt's last tokens show whether its template has opened the reasoning."""

_encode = msgspec.json.Encoder().encode


def _new_call_id() -> str:
    return f"call-{uuid.uuid4()}"


class ChatApi:
    """See ``Api``."""

    endpoint = "chat_completions"
    id_prefix = "chatcmpl-"
    decoder = msgspec.json.Decoder(ChatRequest)

    def check(self, request: ChatRequest) -> None:
        """Check the values of a request."""
        check_chat(request)
        check_tools(request)

    def serves(self, model: ServedModel) -> bool:
        """Whether the model takes chats."""
        return model.chat

    def tokenize(self, request: ChatRequest, model: ServedModel) -> list[list[int]]:
        """Render the conversation; its ids are the one prompt."""
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
        return [model.preprocessor.encode(text)]

    def scoring(self, request: ChatRequest) -> Scoring | None:
        """Which log probabilities the client wants."""
        return prepare.chat_scoring(request)

    def engine_request(
        self,
        request: ChatRequest,
        model: ServedModel,
        token_ids: list[int],
        scoring: Scoring | None,
    ) -> EngineRequest:
        """What the engine is asked."""
        form = reply_format(request, model)
        if form.plain:
            return prepare.chat_request(request, model, token_ids, scoring)
        if form.special_tokens and request.skip_special_tokens is None:
            request = msgspec.structs.replace(request, skip_special_tokens=False)
        asked = prepare.chat_request(request, model, token_ids, scoring)
        forced = forced_call_grammar(request)
        if forced is not None:
            sampling = msgspec.structs.replace(asked.sampling_options, guided_decoding=forced)
            asked = msgspec.structs.replace(asked, sampling_options=sampling)
        if form.reasoning_parser is not None:
            asked = msgspec.structs.replace(asked, require_reasoning=True)
        return asked

    def reading(
        self,
        request: ChatRequest,
        model: ServedModel,
        requests: Sequence[EngineRequest],
        *,
        keep: bool,
    ) -> Reading | None:
        """How replies are read; ``None`` if they are nothing but text."""
        form = reply_format(request, model)
        if form.plain:
            return None
        end = ""
        if form.reasoning_parser is not None:
            last = requests[0].token_ids[-PROMPT_END_TOKENS:]
            end = model.preprocessor.decode(last, skip_special_tokens=False)
        return Reading(form, _new_call_id, prompt_end=end, keep=keep)

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
        reading = job.reading
        choices = [
            ChatChoice(
                choice.index,
                ChatMessage(content=choice.take_text())
                if reading is None
                else reading.message(choice),
                (choice.finish_reason if reading is None else reading.finish_reason(choice))
                or "stop",
                self.logprobs(job, choice, 0),
            )
            for run in job.runs
            for choice in run.choices
        ]
        return _encode(
            ChatReply(
                id=job.reply_id,
                created=job.created,
                model=job.model.name,
                choices=choices,
                usage=job.usage(),
            )
        )
