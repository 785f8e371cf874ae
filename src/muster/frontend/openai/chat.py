"""``POST /v1/chat/completions``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from muster.frontend.choice import Choice
from muster.frontend.openai import prepare
from muster.frontend.openai.frames import ChatFrames
from muster.frontend.openai.guided import refuse_beside_calls
from muster.frontend.openai.job import Job
from muster.frontend.openai.limits import check_chat
from muster.frontend.openai.prepare import Scoring
from muster.frontend.openai.reading import Reading
from muster.frontend.openai.reply import (
    ChatChoice,
    ChatLogprobs,
    ChatMessage,
    ChatReply,
    ReasoningField,
)
from muster.frontend.openai.requests import ChatRequest, Message
from muster.frontend.openai.scores import as_token_ids, chat_logprobs
from muster.frontend.openai.thinking import is_thinking_off, template_kwargs
from muster.frontend.openai.tools import check_tools, forced_call_grammar, named_tool, reply_format
from muster.frontend.served_model import ServedModel
from muster.llm.conversation import Conversation
from muster.llm.protocol import EngineRequest
from muster.llm.reasoning.registry import REASONING_FORMATS

__all__ = ["ChatApi"]

PROMPT_END_TOKENS = 24
"""So many of a prompt's last tokens show whether its template has opened the reasoning."""

_encode = msgspec.json.Encoder().encode


def _new_call_id() -> str:
    return f"call-{uuid.uuid4()}"


class ChatApi:
    """See ``Api``.

    Args:
        reasoning_field: Name of the field that has reasoning.
    """

    endpoint = "chat_completions"
    id_prefix = "chatcmpl-"
    decoder = msgspec.json.Decoder(ChatRequest)

    def __init__(self, reasoning_field: ReasoningField = "reasoning_content") -> None:
        self._reasoning_field = reasoning_field

    def check(self, request: ChatRequest) -> None:
        """Check the values of a request."""
        check_chat(request)
        check_tools(request)
        if named_tool(request) is not None or request.tool_choice == "required":
            refuse_beside_calls(request)

    def serves(self, model: ServedModel) -> bool:
        """Whether the model takes chats."""
        return model.chat

    def tokenize(self, request: ChatRequest, model: ServedModel) -> list[list[int]]:
        """Render the conversation; its ids are the one prompt."""
        given = prepare.given_tokens(request, model)
        if given is not None:
            return [given]
        return [model.preprocessor.encode(self.prompt_text(request, model))]

    def prompt_text(self, request: ChatRequest, model: ServedModel) -> str:
        """The prompt as text.

        Raises:
            MusterError: The template refuses the conversation.
        """
        if request.nvext is not None and request.nvext.use_raw_prompt:
            return _text_of(request.messages[0])
        hidden = request.tool_choice == "none" and not model.tools_when_none
        conversation = Conversation(
            messages=request.messages,
            tools=None if hidden else request.tools,
            documents=request.documents,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=bool(request.continue_final_message),
            reasoning_effort=request.reasoning_effort,
            template_kwargs=template_kwargs(request),
        )
        return model.preprocessor.render(conversation)

    def formatted_prompt(self, request: ChatRequest, model: ServedModel) -> str | None:
        """The prompt as the template wrote it, where the client asks to see it."""
        nvext = request.nvext
        if nvext is None or nvext.token_data or "formatted_prompt" not in (nvext.annotations or ()):
            return None
        return self.prompt_text(request, model)

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
        if model.reasoning_parser is None:
            return asked
        return _for_reasoning(asked, request, forced=forced is not None)

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
        if form.needs_prompt:
            last = requests[0].token_ids[-PROMPT_END_TOKENS:]
            end = model.preprocessor.decode(last, skip_special_tokens=False)
            way = REASONING_FORMATS.get(form.reasoning_parser or "")
            if way is not None and _answers_at_once(requests[0]):
                end = way.closing[0]  # as after a prompt whose template ended it
        return Reading(form, _new_call_id, prompt_end=end, keep=keep)

    def frames(self, job: Job) -> ChatFrames:
        """The builder of the stream's events."""
        return ChatFrames(
            job.reply_id, job.model.name, job.created, reasoning_field=self._reasoning_field
        )

    def logprobs(self, job: Job, choice: Choice) -> ChatLogprobs | None:
        """The choice's new scores."""
        if job.scoring is None:
            return None
        token_bytes = job.model.preprocessor.tokenizer.token_bytes
        scores = choice.take_scores()
        if job.scoring.as_ids:
            scores = as_token_ids(scores)
        return chat_logprobs(scores, top=job.scoring.top, token_bytes=token_bytes)

    def reply(self, job: Job) -> bytes:
        """The whole reply."""
        reading = job.reading
        choices = [
            ChatChoice(
                choice.index,
                ChatMessage(content=choice.take_text())
                if reading is None
                else reading.message(choice, self._reasoning_field),
                (choice.finish_reason if reading is None else reading.finish_reason(choice))
                or "stop",
                self.logprobs(job, choice),
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


def _for_reasoning(asked: EngineRequest, request: ChatRequest, *, forced: bool) -> EngineRequest:
    """The request to an engine of a model that reasons, as Dynamo 1.6.1 has it.

    A form that the API itself knows (``response_format``, a call that must be) holds from the end of
    the reasoning on: the engine has to be told that there is to be any, as with a budget for it. The
    ``guided_*`` fields hold from the first token. What the template was told of thinking the engine
    is told, too.
    """
    kwargs = template_kwargs(request)
    if kwargs:
        told = {**kwargs}
        if request.reasoning_effort is not None:
            told["reasoning_effort"] = request.reasoning_effort
        extra = {
            **(asked.extra_args or {}),
            "reasoning_parser_kwargs": {"chat_template_kwargs": told},
        }
        asked = msgspec.structs.replace(asked, extra_args=extra)
    formed = forced or (
        request.response_format is not None and request.response_format["type"] != "text"
    )
    budget = asked.stop_conditions.max_thinking_tokens
    if (formed or budget is not None) and not is_thinking_off(kwargs):
        asked = msgspec.structs.replace(asked, require_reasoning=True)
    return asked


def _answers_at_once(asked: EngineRequest) -> bool:
    """Whether the first token is the answer's: then nobody may wait for the end of a reasoning."""
    return asked.sampling_options.guided_decoding is not None and not asked.require_reasoning


def _text_of(message: Message) -> str:
    """The text of a message that is the prompt itself."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join([part.get("text") or "" for part in content])
    return content if isinstance(content, str) else ""
