"""Records to bytes and back, the admission rule, and the hashes."""

from __future__ import annotations

import contextlib
import json
from typing import Any, ClassVar

import attrs
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core import records
from rainengine.core.codec import (
    ACTIONS,
    EVENTS,
    MAX_PAYLOAD_BYTES,
    RECORDS,
    TRIGGERS,
    EncodedRecord,
    body_hash,
    call_key,
    canonical_json,
    chain_hash,
    check_identifier,
    clean_text,
    decode,
    decode_value,
    encode,
    encode_append,
    encode_batch,
    encode_value,
    genesis_hash,
    make_converter,
    parse_json,
    prompt_hash,
    to_json,
)
from rainengine.core.codec._upcasts import UPCASTS, upcast
from rainengine.core.codec._wire import read_older
from rainengine.core.errors import InadmissibleValue, LedgerCorrupt
from rainengine.core.records import (
    JsonObject,
    KernelEventRecord,
    Message,
    ModelDecision,
    NewRecord,
    OutcomeRecord,
    Record,
    ToolResult,
    TriggerRecord,
    UnknownRecord,
    Webhook,
)
from rainengine.core.testing import strategies

CONVERTER = make_converter()

MEMBERS = [*TRIGGERS, *ACTIONS, *EVENTS]

any_unicode = st.text(st.characters(codec=None), max_size=8)


def name_of(shape: type[Any]) -> str:
    """The name of a case."""
    return shape.__name__


def holding(member: Any) -> Record:
    """A record that holds a trigger, an action or an event."""
    if isinstance(member, TRIGGERS):
        return TriggerRecord(trigger_id="t", trigger=member, body_hash="")
    if isinstance(member, ACTIONS):
        return ModelDecision(step=1, action=member)
    return KernelEventRecord(member)


def result(value: Any) -> ToolResult:
    """A record that holds any JSON value."""
    return ToolResult(graph_id="g", call_id="c", name="n", value=value)


# Round trips


@pytest.mark.parametrize("shape", RECORDS.values(), ids=name_of)
@given(data=st.data())
def test_every_kind_of_record_reads_back_equal(shape: type[Record], data: st.DataObject) -> None:
    """Whatever a kind of record may hold, its text reads back as the same record."""
    record = data.draw(strategies.instances(shape))
    kind, version, payload = encode(record)
    assert (shape.kind, shape.version) == (kind, version)
    assert record == decode(kind, version, payload)
    assert shape is type(decode(kind, version, payload.encode()))


@pytest.mark.parametrize("shape", MEMBERS, ids=name_of)
@given(data=st.data())
def test_every_trigger_action_and_event_reads_back_equal(
    shape: type[Any], data: st.DataObject
) -> None:
    """Triggers, actions and events read back as instances of their own class."""
    member = data.draw(strategies.instances(shape))
    record = holding(member)
    assert record == decode(*encode(record))
    assert f'"type":"{member.type}"' in encode(record)[2]


@given(strategies.unknown_records())
def test_unknown_records_read_back_as_the_same_text(record: UnknownRecord) -> None:
    """A record of an unknown kind keeps its exact text."""
    encoded = encode(record)
    assert (record.stored_kind, record.stored_version, record.payload) == encoded
    assert record == decode(*encoded)


@given(strategies.json_values())
def test_values_read_back_equal(value: Any) -> None:
    """Values that are no records make the round trip too."""
    assert [value] == decode_value(encode_value([value]), list)


def test_tags_are_unique() -> None:
    """No two kinds, triggers, actions or events share a tag, and every record has one."""
    declared = {shape.__name__ for shape in vars(records).values() if _is_record(shape)}
    assert declared == {shape.__name__ for shape in (*RECORDS.values(), Record, UnknownRecord)}
    assert all(kind == shape.kind for kind, shape in RECORDS.items())
    for family in (TRIGGERS, ACTIONS, EVENTS):
        tags = [attrs.fields_dict(shape)["type"].default for shape in family]
        assert len(family) == len(set(tags))


def _is_record(shape: object) -> bool:
    return isinstance(shape, type) and issubclass(shape, Record)


# The contract: cattrs and msgspec agree


@given(strategies.records())
def test_the_fast_path_writes_what_the_contract_says(record: Record) -> None:
    """The JSON that msgspec writes of a record is what cattrs unstructures it to."""
    assert CONVERTER.unstructure(record) == json.loads(encode(record)[2])


@given(strategies.records())
def test_the_contract_reads_what_the_fast_path_wrote(record: Record) -> None:
    """From the JSON that msgspec wrote, cattrs structures the same record."""
    kind, _, payload = encode(record)
    assert record == CONVERTER.structure(json.loads(payload), RECORDS[kind])


@given(strategies.records())
def test_the_fast_path_reads_what_the_contract_wrote(record: Record) -> None:
    """The output of cattrs, as any JSON library writes it, is read into the same record."""
    kind, version, _ = encode(record)
    text = json.dumps(CONVERTER.unstructure(record), indent=1)
    assert record == decode(kind, version, text)


# What cannot be read


@pytest.mark.parametrize(
    ("kind", "version", "payload"),
    [
        ("from_the_future", 1, '{"a":[1]}'),
        ("outcome", 2, '{"other":"shape"}'),
        ("model_decision", 1, '{"step":1,"action":{"type":"from_the_future","x":1}}'),
        ("trigger", 1, '{"trigger_id":"t","trigger":{"type":"new"},"body_hash":""}'),
        ("kernel_event", 1, '{"event":{"type":"new"}}'),
    ],
)
def test_what_is_from_the_future_survives(kind: str, version: int, payload: str) -> None:
    """A kind, version or type from the future becomes an `UnknownRecord` and is written as read."""
    record = decode(kind, version, payload)
    assert UnknownRecord(stored_kind=kind, stored_version=version, payload=payload) == record
    assert (kind, version, payload) == encode(record)


def test_a_new_field_of_the_same_version_is_passed_over() -> None:
    """A field that this release does not know does not keep a record from loading."""
    kind, version, payload = encode(result(1))
    assert result(1) == decode(kind, version, payload[:-1] + ',"new":1}')


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("outcome", ""),
        ("outcome", "{"),
        ("outcome", "[]"),
        ("outcome", "{}"),
        ("trigger", '{"trigger_id":"t","trigger":5,"body_hash":""}'),
        ("trigger", '{"trigger_id":"t","trigger":{"type":[]},"body_hash":""}'),
        ("trigger", '{"trigger_id":"t","trigger":{"type":"message"},"body_hash":""}'),
        ("outcome", '{"trigger_id":"t","stop_reason":"no such","steps_executed":1}'),
    ],
)
def test_what_was_never_written_is_corrupt(kind: str, payload: str) -> None:
    """Text that no release wrote under this kind and version raises `LedgerCorrupt`."""
    with pytest.raises(LedgerCorrupt):
        decode(kind, 1, payload)


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_corrupt(version: int) -> None:
    """A version before the first one raises `LedgerCorrupt`."""
    _, _, payload = encode(result(1))
    with pytest.raises(LedgerCorrupt):
        decode("tool_result", version, payload)


def test_bytes_that_are_no_text_are_corrupt() -> None:
    """Bytes that are no UTF-8 raise `LedgerCorrupt`, of a known kind or not."""
    with pytest.raises(LedgerCorrupt):
        decode("tool_result", 1, b'{"name":"\xff"}')
    with pytest.raises(LedgerCorrupt):
        decode("from_the_future", 1, b"\xff")


@given(st.binary(max_size=64), st.sampled_from(sorted(RECORDS)))
def test_noise_is_read_or_refused(noise: bytes, kind: str) -> None:
    """Any bytes are either a record or `LedgerCorrupt`, and nothing else is raised."""
    with contextlib.suppress(LedgerCorrupt):
        assert isinstance(decode(kind, 1, noise), Record)


# Upcasts


@attrs.frozen(kw_only=True)
class _Greeting(Record):
    """A shape that has been changed twice."""

    kind: ClassVar[str] = "outcome"
    version: ClassVar[int] = 3
    words: tuple[str, ...]
    polite: bool


_HISTORY = {
    ("outcome", 1): lambda old: {"words": old["text"]},
    ("outcome", 2): lambda old: {"words": old["words"].split(), "polite": True},
}


@pytest.mark.parametrize(
    ("version", "payload"), [(1, '{"text":"good day"}'), (2, '{"words":"good day"}')]
)
def test_earlier_versions_are_brought_up_to_today(version: int, payload: str) -> None:
    """An earlier version passes through every upcast from its own on."""
    expected = _Greeting(words=("good", "day"), polite=True)
    assert expected == read_older(_Greeting, version, payload, _HISTORY)


def test_an_upcast_does_nothing_to_todays_version() -> None:
    """An object of the target version stays as it is."""
    assert upcast({"a": 1}, "outcome", 3, 3, _HISTORY) == {"a": 1}


def test_every_superseded_version_has_an_upcast() -> None:
    """For each kind there is one upcast a superseded version, and no other."""
    superseded = {
        (kind, version) for kind, shape in RECORDS.items() for version in range(1, shape.version)
    }
    assert superseded == set(UPCASTS)


# Admission


def _breaks_the_rule(text: str) -> bool:
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)


@given(any_unicode, st.sampled_from([lambda t: t, lambda t: [t], lambda t: {t: 1}]))
def test_text_is_admitted_by_the_rule(text: str, place: Any) -> None:
    """Text is admitted, as a value or a key, if it holds no NUL and no lone surrogate."""
    record = result(place(text))
    if _breaks_the_rule(text):
        with pytest.raises(InadmissibleValue):
            encode(record)
    else:
        assert record == decode(*encode(record))


@given(st.integers())
def test_integers_are_admitted_within_64_bits(number: int) -> None:
    """An integer is admitted if it fits 64 bits, signed or unsigned."""
    if -(2**63) <= number < 2**64:
        assert number == decode(*encode(result(number))).value  # type: ignore[attr-defined]
    else:
        with pytest.raises(InadmissibleValue):
            encode(result([number]))


@given(st.floats())
def test_floats_are_admitted_if_finite(number: float) -> None:
    """A float is admitted unless it is infinite or not a number."""
    if number - number == 0:
        assert result(number) == decode(*encode(result(number)))
    else:
        with pytest.raises(InadmissibleValue):
            encode(result(number))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": "x\0"}]}, "$.value.a[1].b"),
        ({"a": {"\ud800": 1}}, "$.value.a"),
        ([0.0, float("nan")], "$.value[1]"),
        ({"n": 2**64}, "$.value.n"),
        ({"n": {1: 2}}, "$.value.n"),
        ([[object()]], "$.value[0][0]"),
    ],
)
def test_a_refusal_names_the_path(value: Any, path: str) -> None:
    """`InadmissibleValue` says where in the record the culprit is."""
    with pytest.raises(InadmissibleValue) as caught:
        encode(result(value))
    assert path == caught.value.path


@pytest.mark.parametrize("depth", [250, 1_000, 10_000, 100_000])
def test_deep_values_are_refused(depth: int) -> None:
    """Nesting beyond the limit is refused at any depth, without exhausting the stack."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    with pytest.raises(InadmissibleValue):
        encode(result(value))
    with pytest.raises(InadmissibleValue):
        parse_json("[" * depth + "]" * depth)
    with pytest.raises(InadmissibleValue):
        to_json(value)


def test_the_cap_is_on_bytes() -> None:
    """A record is admitted up to the cap in bytes of UTF-8."""
    size = len(encode(result(""))[2])
    assert size + 20 == len(encode(result("ü" * 10), cap=size + 20)[2].encode())
    with pytest.raises(InadmissibleValue):
        encode(result("ü" * 10), cap=size + 19)
    with pytest.raises(InadmissibleValue):
        encode(result("x" * MAX_PAYLOAD_BYTES))


def test_what_would_read_back_otherwise_is_refused() -> None:
    """A value that JSON would turn into another one is refused."""
    values: list[Any] = [(1, 2), {"a": (1,)}, b"bytes", {1, 2}]
    for value in values:
        with pytest.raises(InadmissibleValue):
            encode(result(value))
    with pytest.raises(InadmissibleValue) as caught:
        encode(OutcomeRecord(trigger_id="t", stop_reason="responded", steps_executed="1"))  # type: ignore[arg-type]
    assert "steps_executed" in caught.value.path


def test_long_digits_in_text_do_not_matter() -> None:
    """What looks suspicious in the encoded text is admitted if the value is in order."""
    values: list[Any] = ["1" * 60, "\\u0000", [[]] * 300, {"{[" * 300: "}"}, 10**19]
    for value in values:
        assert result(value) == decode(*encode(result(value)))


def test_a_batch_checks_its_envelopes() -> None:
    """Ids, keys and times beside a record obey the rule too."""
    good = NewRecord(result(1), 5, "run", "key")
    assert [EncodedRecord(*encode(result(1)), 5, "run", "key")] == encode_batch([good])
    wrongs: list[dict[str, Any]] = [
        {"trigger_id": ""},
        {"trigger_id": "\0"},
        {"idempotency_key": "x" * 513},
        {"idempotency_key": "\ud800"},
        {"occurred_at_ms": 2**63},
        {"occurred_at_ms": 1.0},
        {"occurred_at_ms": True},
    ]
    for changes in wrongs:
        with pytest.raises(InadmissibleValue):
            encode_batch([good, attrs.evolve(good, **changes)])


def test_a_known_kind_is_not_stored_as_unknown() -> None:
    """An `UnknownRecord` of a kind and version that can be read is refused."""
    kind, version, payload = encode(result(1))
    record = UnknownRecord(stored_kind=kind, stored_version=version, payload=payload)
    with pytest.raises(InadmissibleValue):
        encode(record)
    later = attrs.evolve(record, stored_version=version + 1)
    assert later == decode(*encode(later))


def test_an_append_needs_something_to_append() -> None:
    """An append without records needs a lease change and carries nothing to deliver."""
    with pytest.raises(InadmissibleValue):
        encode_append("s", [])


@given(any_unicode)
def test_cleaned_text_is_admitted(text: str) -> None:
    """`clean_text` replaces what the rule forbids, character by character, and nothing else."""
    cleaned = clean_text(text)
    assert len(text) == len(cleaned)
    assert not _breaks_the_rule(cleaned)
    assert _breaks_the_rule(text) or text == cleaned


@given(any_unicode)
def test_identifiers_are_admitted_by_the_rule(text: str) -> None:
    """An identifier has 1 to 512 bytes of admitted text."""
    if text and not _breaks_the_rule(text):
        assert text == check_identifier("id", text)
        assert check_identifier("id", "x" * 512)
    else:
        with pytest.raises(InadmissibleValue):
            check_identifier("id", text)


@pytest.mark.parametrize("value", ["", "x" * 513, "ü" * 257, None, 5, b"id"])
def test_other_identifiers_are_refused(value: object) -> None:
    """An identifier is neither empty nor long nor anything but text."""
    with pytest.raises(InadmissibleValue):
        check_identifier("id", value)


# JSON from outside


@given(strategies.json_values())
def test_admitted_json_is_parsed(value: Any) -> None:
    """Whatever the rule admits is parsed to itself."""
    assert value == parse_json(json.dumps(value))
    assert value == parse_json(json.dumps(value, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '[{"b":{"a":1,"\\u0061":2}}]',
        "NaN",
        "[-Infinity]",
        "1e999",
        "18446744073709551616",
        "1" * 5000,
        '"\\u0000"',
        '"\\ud800"',
        '{"\\udc00":1}',
        "",
        "{",
        "[1,]",
        "nil",
        b"\xff",
        b'"\xff"',
    ],
)
def test_other_json_is_refused(text: str | bytes) -> None:
    """Duplicate keys, NaN, huge numbers, NUL, surrogates and what is no JSON are refused."""
    with pytest.raises(InadmissibleValue):
        parse_json(text)


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_noise_is_parsed_or_refused(noise: str | bytes) -> None:
    """Any text is either parsed or `InadmissibleValue`, and what is parsed can be stored."""
    try:
        value = parse_json(noise)
    except InadmissibleValue:
        return
    assert result(value) == decode(*encode(result(value)))


@attrs.frozen
class _Weather:
    city: str
    degrees: float


def test_what_skills_return_becomes_json() -> None:
    """Instances of attrs classes, tuples and numbered keys become JSON values."""
    value = {"w": (_Weather("Bern", 3.5),), "n": {1, 2}}
    assert to_json(value) == {"w": [{"city": "Bern", "degrees": 3.5}], "n": [1, 2]}
    for bad in (object(), float("nan"), "\0", 2**70, {1: 2}):
        with pytest.raises(InadmissibleValue):
            to_json(bad)


# Hashes


def test_equal_bodies_have_equal_hashes() -> None:
    """Order of keys and of scopes and the spelling of numbers make no difference."""
    first = Webhook(source="s", payload={"a": 1, "b": [1.0, "ü"]})
    second = Webhook(source="s", payload={"b": [1, "\u00fc"], "a": 1.0})
    assert body_hash(first, ["x", "y"]) == body_hash(second, ("y", "x"))


@pytest.mark.parametrize(
    ("trigger", "scopes"),
    [
        (Message(user_id="u", content="other"), ["x"]),
        (Message(user_id="v", content="hello"), ["x"]),
        (Message(user_id="u", content="hello"), []),
        (Message(user_id="u", content="hello"), ["x", "y"]),
        (Webhook(source="u", payload="hello"), ["x"]),
    ],
)
def test_different_bodies_have_different_hashes(trigger: Any, scopes: list[str]) -> None:
    """Another trigger, another type of trigger or other scopes make another body."""
    assert body_hash(Message(user_id="u", content="hello"), ["x"]) != body_hash(trigger, scopes)


@given(strategies.triggers(), st.lists(strategies.identifiers(), max_size=3))
def test_a_stored_trigger_keeps_its_body_hash(trigger: Any, scopes: list[str]) -> None:
    """The hash of a request is that of the trigger that was read back."""
    record = TriggerRecord(trigger_id="t", trigger=trigger, body_hash="")
    stored = decode(*encode(record))
    assert isinstance(stored, TriggerRecord)
    assert body_hash(trigger, scopes) == body_hash(stored.trigger, reversed(scopes))


def test_canonical_json_is_rfc_8785() -> None:
    """Keys are sorted by UTF-16 units and numbers written as JavaScript writes them."""
    value = {"\u20ac": 1.0, "\r": 1e30, "1": [True, None], "\U0001f600": "ö", "\ufb33": 4.5}
    expected = '{"\\r":1e+30,"1":[true,null],"€":1,"\U0001f600":"ö","\ufb33":4.5}'
    assert expected.encode() == canonical_json(value)  # type: ignore[arg-type]


@given(strategies.json_values(), strategies.json_values())
def test_different_values_have_different_canonical_forms(one: Any, other: Any) -> None:
    """Equal values have one canonical form; others differ beyond the precision of a double."""
    if one == other and repr(one) == repr(other):
        assert canonical_json(one) == canonical_json(other)
    elif canonical_json(one) == canonical_json(other):
        assert _as_doubles(one) == _as_doubles(other)


def _as_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    return float(value) if type(value) in (int, float) else value


def test_large_integers_do_not_pass_for_text() -> None:
    """Integers beyond 2^53, which the RFC leaves out, are told apart from one another and text."""
    values: list[Any] = [2**60, 2**60 + 1, "#1152921504606846976", "1152921504606846976", -(2**60)]
    assert len(values) == len({canonical_json({"a": value}) for value in values})


def test_a_call_key_depends_on_every_part() -> None:
    """Tenant, session, graph, call and arguments each make another key; order of keys does not."""
    args: JsonObject = {"a": 1, "b": 2}
    calls = [tuple(parts) for parts in ("tsgc", "xsgc", "txgc", "tsxc", "tsgx")]
    keys = {call_key(t, s, g, c, args) for t, s, g, c in calls}
    assert len(calls) == len(keys)
    assert call_key("t", "s", "g", "c", {"b": 2, "a": 1}) in keys
    assert call_key("t", "s", "g", "c", {"a": 1}) not in keys


def test_a_prompt_hash_depends_on_every_part() -> None:
    """The same parts hash the same, others do not."""
    assert prompt_hash(["a"], "b") == prompt_hash(["a"], "b")
    assert prompt_hash(["a"], "b") != prompt_hash(["a", "b"])


def test_the_genesis_hash_keeps_tenant_and_session_apart() -> None:
    """Moving a character from the tenant to the session makes another hash."""
    assert genesis_hash("ab", "c") != genesis_hash("a", "bc")


@given(st.data())
def test_the_chain_depends_on_every_field(data: st.DataObject) -> None:
    """Changing the previous hash, the sequence or any stored field changes a record's hash."""
    texts = strategies.texts(4)
    fields: dict[str, st.SearchStrategy[Any]] = {
        "kind": texts,
        "version": st.integers(0, 99),
        "payload": texts,
        "occurred_at_ms": st.integers(-99, 99),
        "trigger_id": st.none() | texts,
        "idempotency_key": st.none() | texts,
    }
    record = EncodedRecord(**{name: data.draw(values) for name, values in fields.items()})
    name = data.draw(st.sampled_from(sorted(fields)))
    changes: dict[str, Any] = {name: data.draw(fields[name])}
    other = attrs.evolve(record, **changes)
    digest = chain_hash(b"\0" * 32, 1, record)
    assert (record == other) == (digest == chain_hash(b"\0" * 32, 1, other))
    assert digest != chain_hash(b"\0" * 32, 2, record)
    assert digest != chain_hash(b"\1" * 32, 1, record)


def test_the_chain_is_what_it_always_was() -> None:
    """The hash of a given record under a given genesis is fixed for ever."""
    record = EncodedRecord("outcome", 1, '{"a":"ü"}', 1_700_000_000_000, "run", None)
    digest = chain_hash(genesis_hash("tenant", "session"), 7, record)
    fixed = "315628315fc44b1bfe9717317f1bc56b4dc2af9712fc203aa90f4c7a3294cc80"
    assert fixed == digest.hex()


def test_canonical_json_is_the_standards_for_every_character() -> None:
    """The quick way of making canonical JSON gives what RFC 8785's reference gives."""
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for start in range(0, len(characters), 997):
        text = "".join(characters[start : start + 997])
        value: Any = {"text": text, "a.1e5": [1, True, None, "0.5"]}
        assert rfc8785.dumps(value) == canonical_json(value)
    keys: Any = dict.fromkeys(characters[:2000], 1)
    assert rfc8785.dumps(keys) == canonical_json(keys)


@given(strategies.json_values())
def test_canonical_json_is_the_standards(value: Any) -> None:
    """The quick way is taken only where it gives what the reference gives."""
    try:
        expected = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        return
    assert expected == canonical_json(value)
