"""Messages as turns of the user and of the model."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rainengine.core.errors import ProviderError
from rainengine.core.records import (
    Attachment,
    AttachmentPart,
    BlobRef,
    ChatMessage,
    JsonPart,
    Part,
    TextPart,
    ToolCallPart,
    ToolFailure,
    ToolResultPart,
)
from rainengine.provider_gemini._contents import UNSIGNED, Dialect, contents_of, system_texts
from rainengine.provider_gemini._opaque import pack

MODEL = "gemini-2.5-flash"


def said(role: Any, *parts: Part | str) -> ChatMessage:
    """A message."""
    return ChatMessage(role, tuple(TextPart(one) if isinstance(one, str) else one for one in parts))


def call(call_id: str, name: str = "f", **fields: Any) -> ToolCallPart:
    """A call without arguments."""
    return ToolCallPart(call_id=call_id, name=name, args={}, **fields)


def result(call_id: str, value: Any = None, name: str = "f") -> ToolResultPart:
    """What came of it."""
    return ToolResultPart(call_id=call_id, name=name, value=value)


def turns(*messages: ChatMessage, **changes: Any) -> Any:
    """The turns of messages."""
    options = {"model": MODEL, "files": {}, "max_output_bytes": 1000, "signed": False, **changes}
    return contents_of(messages, Dialect(**options))


def test_roles_and_parts() -> None:
    """Texts, JSON and attachments are parts of the user's and of the model's turns."""
    picture = Attachment(name="a.png", media_type="image/png", data="iVBO")
    expected = [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {"text": '{"a":[1,"ä"]}'},
                {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
            ],
        },
        {"role": "model", "parts": [{"text": "Nice"}]},
        {"role": "user", "parts": [{"text": "And?"}]},
    ]
    assert expected == turns(
        said("user", "Look", JsonPart({"a": [1, "ä"]}), AttachmentPart(picture)),
        said("assistant", "Nice"),
        said("user", "And?"),
    )


def test_calls_are_followed_by_their_responses() -> None:
    """Calls are one turn of the model, their results the next of the user, by name and id."""
    expected = [
        {"role": "user", "parts": [{"text": "Go"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": {}}},
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"output": [1]}}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"output": None}}},
                {"text": "More"},
            ],
        },
    ]
    assert expected == turns(
        said("user", "Go"),
        said("assistant", call("a"), call("b", "g")),
        said("tool", result("a", [1]), result("b", name="g")),
        said("user", "More"),
    )


def test_ids_are_unique_in_the_conversation() -> None:
    """An id that comes again in a later turn goes out as another, with its response."""
    later = turns(
        said("user", "Go"),
        said("assistant", call("a")),
        said("tool", result("a", 1)),
        said("assistant", call("a")),
        said("tool", result("a", 2)),
    )
    sent = [part["functionCall"]["id"] for turn in later[1::2] for part in turn["parts"]]
    told = [part["functionResponse"]["id"] for turn in later[2::2] for part in turn["parts"]]
    assert sent == told
    assert 2 == len(set(sent))


def test_failure_is_an_error() -> None:
    """What failed is told of under `error`, which the API knows."""
    failure = ToolFailure(kind="timeout", message="too late")
    failed = ToolResultPart(call_id="a", name="f", failure=failure)
    shown = turns(said("user", "Go"), said("assistant", call("a")), said("tool", failed))
    response = shown[2]["parts"][0]["functionResponse"]["response"]
    assert {"error": {"kind": "timeout", "message": "too late"}} == response


@pytest.mark.parametrize("value", ["ä" * 100, {"text": "ä" * 100}])
def test_long_output_is_cut_between_characters(value: Any) -> None:
    """Too long an output is cut by bytes, never within a character, and says so."""
    shown = turns(
        said("user", "Go"),
        said("assistant", call("a")),
        said("tool", result("a", value)),
        max_output_bytes=51,
    )
    output = shown[2]["parts"][0]["functionResponse"]["response"]["output"]
    kept, _, note = output.partition("\n")
    assert len(kept.encode()) in {50, 51}
    assert "bytes were left out" in note


def test_output_that_fits_is_left_alone() -> None:
    """An output of just as many bytes as are allowed keeps its shape."""
    value = {"a": "ä"}
    shown = turns(
        said("user", "Go"),
        said("assistant", call("a")),
        said("tool", result("a", value)),
        max_output_bytes=len('{"a":"ä"}'.encode()),
    )
    assert {"output": value} == shown[2]["parts"][0]["functionResponse"]["response"]


def test_system_comes_first_and_apart() -> None:
    """What the system says before anybody else is the instruction; later it is marked."""
    messages = (
        said("system", "Be kind."),
        said("system", "Be brief."),
        said("user", "Hi"),
        said("system", "Plan: 1 of 2"),
    )
    assert ["Be kind.", "Be brief."] == system_texts(messages)
    (turn,) = turns(*messages)
    assert ["Hi", "(From the system, not from the user: Plan: 1 of 2)"] == [
        part["text"] for part in turn["parts"]
    ]


def test_user_begins_and_ends() -> None:
    """A conversation that begins or ends with the model gets a turn of the user there."""
    shown = turns(said("assistant", "Hm"))
    assert ["user", "model", "user"] == [turn["role"] for turn in shown]
    assert ["user"] == [turn["role"] for turn in turns()]


def test_nothing_is_empty() -> None:
    """Empty texts and messages are left out."""
    shown = turns(said("user", ""), said("user", "Hi", ""), said("assistant", ""), said("user"))
    assert [{"role": "user", "parts": [{"text": "Hi"}]}] == shown


def test_names_are_such_as_the_api_takes() -> None:
    """A skill whose name the API does not take has another one there, the same in both places."""
    shown = turns(
        said("user", "Go"),
        said("assistant", call("a", "acme/look up")),
        said("tool", result("a", name="acme/look up")),
    )
    sent = shown[1]["parts"][0]["functionCall"]["name"]
    assert sent == shown[2]["parts"][0]["functionResponse"]["name"]
    assert sent.startswith("skill_acme_look_up_")


def test_signatures_go_back_where_they_were() -> None:
    """A call's signature and what stood before the first call come again in their places."""
    before = [{"text": "I look", "thoughtSignature": "eA=="}]
    first = call("a", opaque=pack(MODEL, "c2ln", before))
    shown = turns(
        said("user", "Go"),
        said("assistant", first, call("b")),
        said("tool", result("a"), result("b")),
        signed=True,
    )
    assert [
        {"text": "I look", "thoughtSignature": "eA=="},
        {"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "b", "name": "f", "args": {}}},
    ] == shown[1]["parts"]


@pytest.mark.parametrize(
    "opaque",
    [None, "", "{", "[]", '{"api":"responses","items":[]}', pack("gemini-3-pro", "c2ln", [])],
)
def test_what_others_have_left_is_not_sent(opaque: str | None) -> None:
    """Without a signature of its own, a model that wants one gets the word for that."""
    messages = (said("user", "Go"), said("assistant", call("a", opaque=opaque)))
    results = said("tool", result("a"))
    signed = turns(*messages, results, signed=True)[1]["parts"]
    unsigned = turns(*messages, results)[1]["parts"]
    assert UNSIGNED == signed[0]["thoughtSignature"]
    assert "thoughtSignature" not in unsigned[0]


def test_files_of_text_are_texts() -> None:
    """A file of a type of text goes along as text, under its name."""
    data = base64.b64encode('{"ä": 1}'.encode()).decode()
    file = Attachment(name="a.json", media_type="application/json", data=data)
    (turn,) = turns(said("user", AttachmentPart(file)))
    assert [{"text": 'a.json:\n{"ä": 1}'}] == turn["parts"]


BLOB = BlobRef(digest="0" * 64, size=3)
KEPT = Attachment(name="a.pdf", media_type="application/pdf", blob=BLOB)


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (
            "https://files/1",
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://files/1"}},
        ),
        (
            "data:application/pdf;base64,YWJj",
            {"inlineData": {"mimeType": "application/pdf", "data": "YWJj"}},
        ),
    ],
)
def test_file_by_reference(found: str, part: Any) -> None:
    """A file that is not inline goes by its URI, or inline where it was found as a whole."""
    (turn,) = turns(said("user", AttachmentPart(KEPT)), files={BLOB: found})
    assert [part] == turn["parts"]


def test_file_that_nobody_finds() -> None:
    """A file that cannot be sent is an error, and not left out in silence."""
    with pytest.raises(ProviderError, match=r"attachment 'a\.pdf' cannot be sent") as caught:
        turns(said("user", AttachmentPart(KEPT)))
    assert ("configuration", False) == (caught.value.kind, caught.value.retryable)
