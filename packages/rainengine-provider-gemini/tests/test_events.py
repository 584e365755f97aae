"""Streams of server-sent events, as the WHATWG has them read.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core.errors import ProviderError
from rainengine.core.records import Respond
from rainengine.model_servers import Reply, Send
from rainengine.provider_gemini._events import EventReader

HEAD = {"content-type": "text/event-stream"}


def chunk(text: str, **ending: str) -> bytes:
    """A piece of an answer."""
    candidate = {"content": {"parts": [{"text": text}]}, **ending}
    return json.dumps({"candidates": [candidate]}, indent=1).encode()


def data(body: bytes, end: bytes = b"\n", field: bytes = b"data: ") -> bytes:
    """An event without its blank line, a line of data for each line of the body."""
    return b"".join(field + line + end for line in body.split(b"\n"))


FIRST, LAST = chunk("Hello "), chunk("you", finishReason="STOP")
A, B = data(FIRST), data(LAST)

STREAMS = {
    "as Google sends it": data(FIRST, b"\r\n") + b"\r\n" + data(LAST, b"\r\n") + b"\r\n",
    "lines end with LF": A + b"\n" + B + b"\n",
    "lines end with CR": data(FIRST, b"\r") + b"\r" + data(LAST, b"\r") + b"\r",
    "lines end differently": data(FIRST, b"\r") + b"\r\n" + B + b"\r",
    "byte order mark": b"\xef\xbb\xbf" + A + b"\n" + B + b"\n",
    "no space": data(FIRST, field=b"data:") + b"\n" + data(LAST, field=b"data:") + b"\n",
    "comments": b": hi\n" + A + b":\n" + b"\n: ping\n\n" + B + b"\n",
    "other fields": b"event: x\nid: 1\nretry: 9\n" + A + b"data-x: 1\nDATA: 2\n\n" + B + b"\n",
    "blank lines": b"\n\n" + A + b"\n\n\n" + B + b"\n",
    "events without data": b"data\n\ndata:\n\n" + A + b"\ndata\ndata\n\n" + B + b"\n",
    "lines without data": b"data\n" + A + b"data:\n\n" + B + b"data\n\n",
    "the last event is not ended": A + b"\n" + B + b"\n" + b'data: {"error": {"code": 503}}\n',
    "the last line is not ended": A + b"\n" + B + b"\n" + b'data: {"error": {"cod',
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("name", STREAMS)
async def test_detail_of_a_stream(serving: Any, asking: Any, name: str, size: int) -> None:
    """A stream means the same however it is written, and however it is torn."""
    sent = STREAMS[name]
    moves = [Send(sent[start : start + size]) for start in range(0, len(sent), size)]
    said: list[str] = []
    async with serving([Reply(headers=HEAD, moves=moves)]) as (_, provider):
        decision = await provider.stream_action(asking(), said.append)
    assert Respond("Hello you") == decision.action
    assert ["Hello ", "you"] == said


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
async def test_event_that_is_not_ended(serving: Any, asking: Any, end: bytes) -> None:
    """An event without a blank line after it may not be whole: the stream has broken off."""
    reply = Reply(headers=HEAD, moves=[Send(A + b"\n" + B.removesuffix(b"\n") + end)])
    async with serving([reply]) as (_, provider):
        with pytest.raises(ProviderError, match="broke off") as caught:
            await provider.stream_action(asking(), lambda _: None)
    assert ("transport", True) == (caught.value.kind, caught.value.retryable)


async def test_byte_order_mark_within_a_stream(serving: Any, asking: Any) -> None:
    """Only at the beginning is it left out: elsewhere it is a part of the field's name."""
    strange = b'\xef\xbb\xbfdata: {"error": {}}\n\n'
    reply = Reply(headers=HEAD, moves=[Send(A + b"\n" + strange + B + b"\n")])
    async with serving([reply]) as (_, provider):
        decision = await provider.stream_action(asking(), lambda _: None)
    assert Respond("Hello you") == decision.action


async def test_compressed_stream(serving: Any, asking: Any) -> None:
    """A stream that comes in compressed is read as what it holds."""
    packer = zlib.compressobj(wbits=31)  # gzip
    first = packer.compress(A + b"\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    last = packer.compress(B + b"\n") + packer.flush()
    head = {**HEAD, "content-encoding": "gzip"}
    reply = Reply(headers=head, moves=[Send(first), Send(last)])
    async with serving([reply]) as (_, provider):
        decision = await provider.stream_action(asking(), lambda _: None)
    assert Respond("Hello you") == decision.action


async def test_stream_that_cannot_be_decompressed(serving: Any, asking: Any) -> None:
    """A stream that is not compressed as it says is garbled, and its connection is given back."""
    broken = Reply(headers={**HEAD, "content-encoding": "gzip"}, moves=[Send(A), Send(B)])
    whole = Reply(headers=HEAD, moves=[Send(A + b"\n" + B + b"\n")])
    async with serving([broken, whole], max_connections=1) as (_, provider):
        with pytest.raises(ProviderError) as caught:
            await provider.stream_action(asking(), lambda _: None)
        decision = await provider.stream_action(asking(), lambda _: None)
    assert ("invalid_response", True) == (caught.value.kind, caught.value.retryable)
    assert Respond("Hello you") == decision.action


_PIECES = st.sampled_from([b"data", b":", b" ", b"\r", b"\n", b"x", b"", b"\xef\xbb\xbf", b"id: 1"])


@given(st.lists(_PIECES, max_size=40))
def test_tearing_makes_no_difference(pieces: list[bytes]) -> None:
    """The events are the same wherever the bytes are torn."""
    whole, torn = EventReader(), EventReader()
    expected = list(whole.feed(b"".join(pieces)))
    assert expected == [event for piece in pieces for event in torn.feed(piece)]
