from __future__ import annotations

from muster.frontend.openai.frames import DONE, ChatFrames, error_frame
from muster.frontend.openai.reply import Usage
from muster.frontend.surface.chunks import ChatChunk, read_chunks


def chunks_of(data: bytes) -> list[ChatChunk | bytes]:
    return list(read_chunks(data))


def test_what_the_chat_path_writes_is_read() -> None:
    frames = ChatFrames("id", "tiny", 5)
    data = frames.opening(0) + frames.text(0, 'a\n\n"data: [DONE]"\u2028')
    data += frames.chunk(0, "b", finish_reason="stop", logprobs=None, usage=None)
    data += frames.usage(Usage(1, 2, 3)) + DONE
    opening, text, last, usage = chunks_of(data)
    assert isinstance(opening, ChatChunk)
    assert opening.choices[0].delta.content is None
    assert isinstance(text, ChatChunk)
    assert text.choices[0].delta.content == 'a\n\n"data: [DONE]"\u2028'
    assert isinstance(last, ChatChunk)
    assert (last.choices[0].delta.content, last.choices[0].finish_reason) == ("b", "stop")
    assert isinstance(usage, ChatChunk)
    assert usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (1, 2)
    assert usage.usage.cached_tokens is None


def test_comments_pass_and_annotations_do_not() -> None:
    assert chunks_of(b": keep-alive\n\n" + DONE) == [b": keep-alive\n\n"]
    assert chunks_of(b'event: request_id\n: "x"\n\n') == []


def test_an_error_is_read_with_its_code() -> None:
    body = b'{"error":{"message":"m","type":"server_error","param":null,"code":"engine"}}'
    (chunk,) = chunks_of(error_frame(body) + DONE)
    assert isinstance(chunk, ChatChunk)
    assert chunk.error is not None
    assert (chunk.error.message, chunk.error.code) == ("m", "engine")
