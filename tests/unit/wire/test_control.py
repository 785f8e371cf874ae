"""What headers say: the peer's exact JSON, and tolerance of what it may add."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muster.errors import ProtocolError
from muster.wire.control import (
    encode_control,
    encode_handshake,
    encode_prologue,
    read_control,
    read_handshake,
    read_prologue,
)
from muster.wire.errors import WireError
from muster.wire.frames import TwoPart, TwoPartReader


def control(**changes: Any) -> bytes:
    info = {"address": "127.0.0.1:9", "subject": "s", "context": "i", "stream_type": "response"}
    fields: dict[str, Any] = {
        "id": "i",
        "request_type": "single_in",
        "response_type": "many_out",
        "payload_codec": "msgpack",
        "connection_info": {"transport": "tcp_server", "info": json.dumps(info)},
    }
    return json.dumps({key: v for key, v in (fields | changes).items() if v is not None}).encode()


def test_control_header_is_the_peers_json() -> None:
    text = encode_control(
        request_id="my-req-id",
        codec="msgpack",
        address="192.0.2.2:43017",
        subject="u",
        metadata={"mk": "mv"},
    )
    assert text == (
        b'{"id":"my-req-id","request_type":"single_in","response_type":"many_out",'
        b'"payload_codec":"msgpack","connection_info":{"transport":"tcp_server","info":'
        b'"{\\"address\\":\\"192.0.2.2:43017\\",\\"subject\\":\\"u\\",\\"context\\":\\"my-req-id\\",'
        b'\\"stream_type\\":\\"response\\"}"},"metadata":{"mk":"mv"}}'
    )


def test_empty_metadata_is_left_out() -> None:
    text = encode_control(request_id="i", codec="json", address="h:1", subject="s", metadata={})
    assert b"metadata" not in text


def test_unknown_fields_and_a_missing_codec_are_fine() -> None:
    message = TwoPart(control(payload_codec=None, frontend_send_ts_ns=1, future={"a": 1}), b"")
    read, info = read_control(message)
    assert (read.payload_codec, info.subject, info.address) == ("json", "s", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"", "no control header"),
        (b"{", "bad control header"),
        (b"\xff\xfe", "bad control header"),
        (b"[]", "bad control header"),
        (control(id=None), "missing required field `id`"),
        (control(payload_codec="xml"), "unknown payload_codec 'xml'"),
        (control(connection_info={"transport": "quic", "info": "{}"}), "bad control header"),
        (
            control(
                connection_info={"transport": "quic", "info": '{"address":"h:1","subject":"s"}'}
            ),
            "unknown response transport 'quic'",
        ),
        (control(connection_info={"transport": "tcp_server", "info": "{"}), "bad control header"),
    ],
)
def test_a_bad_control_header_is_refused_with_its_reason(header: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        read_control(TwoPart(header, b""))


def test_handshake_reads_back() -> None:
    (message,) = TwoPartReader(1000).feed(encode_handshake("abc"))
    assert message.header == b'{"subject":"abc","stream_type":"response"}'
    assert read_handshake(message) == "abc"


def test_prologue_reads_back_with_its_typed_error() -> None:
    (good,) = TwoPartReader(1000).feed(encode_prologue())
    assert good.header == b'{"error":null}'
    assert read_prologue(good) is None
    failure = WireError(error_type={"Backend": "InvalidArgument"}, message="no")
    (bad,) = TwoPartReader(1000).feed(encode_prologue(failure))
    assert read_prologue(bad) == failure


def test_prologue_with_text_alone_is_an_error_too() -> None:
    found = read_prologue(TwoPart(b'{"error":"worker is sad","new":1}', b""))
    assert found is not None
    assert found.message == "worker is sad"


# -- nested too deeply ------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000


def test_a_control_header_nested_too_deeply_is_no_control_header() -> None:
    text = control()[:-1] + b',"metadata":{"x":' + DEEP + b"}}"
    with pytest.raises(ProtocolError, match="bad control header"):
        read_control(TwoPart(text, b""))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_handshake, b'{"subject":"s","x":' + DEEP + b"}"),
        (read_prologue, b'{"error":"e","x":' + DEEP + b"}"),
        (read_prologue, b'{"error":"e","typed_error":{"caused_by":' + DEEP + b"}}"),
    ],
    ids=["handshake", "prologue", "typed error"],
)
def test_headers_nested_too_deeply_are_refused(read: Any, text: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^bad "):
        read(TwoPart(text, b""))


def test_a_prologue_of_text_alone_is_an_unavailable_worker() -> None:
    error = read_prologue(TwoPart(b'{"error":"no engine"}', b""))
    assert error == WireError(error_type="Unavailable", message="no engine")
    assert error.settled().class_ == "Unavailable"
