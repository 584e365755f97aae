"""Records and bytes: the only place that knows how facts are written down."""

from __future__ import annotations

from rainengine.core.codec._admission import MAX_PAYLOAD_BYTES as MAX_PAYLOAD_BYTES
from rainengine.core.codec._admission import check_identifier as check_identifier
from rainengine.core.codec._admission import check_integer as check_integer
from rainengine.core.codec._admission import clean_json as clean_json
from rainengine.core.codec._admission import clean_text as clean_text
from rainengine.core.codec._admission import parse_json as parse_json
from rainengine.core.codec._admission import shown as shown
from rainengine.core.codec._appends import EncodedAppend as EncodedAppend
from rainengine.core.codec._appends import encode_append as encode_append
from rainengine.core.codec._contract import make_converter as make_converter
from rainengine.core.codec._digests import body_hash as body_hash
from rainengine.core.codec._digests import call_key as call_key
from rainengine.core.codec._digests import calls_hash as calls_hash
from rainengine.core.codec._digests import canonical_json as canonical_json
from rainengine.core.codec._digests import chain_hash as chain_hash
from rainengine.core.codec._digests import genesis_hash as genesis_hash
from rainengine.core.codec._digests import manifest_version as manifest_version
from rainengine.core.codec._digests import prompt_hash as prompt_hash
from rainengine.core.codec._families import ACTIONS as ACTIONS
from rainengine.core.codec._families import EVENTS as EVENTS
from rainengine.core.codec._families import RECORDS as RECORDS
from rainengine.core.codec._families import TRIGGERS as TRIGGERS
from rainengine.core.codec._orders import read_order as read_order
from rainengine.core.codec._orders import read_result as read_result
from rainengine.core.codec._outbox import admit_reports as admit_reports
from rainengine.core.codec._outbox import check_claim as check_claim
from rainengine.core.codec._outbox import check_entry as check_entry
from rainengine.core.codec._outbox import check_kind as check_kind
from rainengine.core.codec._shapes import copy_json as copy_json
from rainengine.core.codec._shapes import parameter_shape as parameter_shape
from rainengine.core.codec._shapes import parameters_of as parameters_of
from rainengine.core.codec._shapes import schema_of as schema_of
from rainengine.core.codec._shapes import structure as structure
from rainengine.core.codec._shapes import to_json as to_json
from rainengine.core.codec._shapes import to_json_object as to_json_object
from rainengine.core.codec._snapshots import restore_projection as restore_projection
from rainengine.core.codec._snapshots import save_projection as save_projection
from rainengine.core.codec._wire import EncodedRecord as EncodedRecord
from rainengine.core.codec._wire import decode as decode
from rainengine.core.codec._wire import decode_value as decode_value
from rainengine.core.codec._wire import encode as encode
from rainengine.core.codec._wire import encode_batch as encode_batch
from rainengine.core.codec._wire import encode_value as encode_value
from rainengine.core.codec._wire import read_back as read_back
