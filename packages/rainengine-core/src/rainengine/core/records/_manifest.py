"""What a skill says about itself."""

from __future__ import annotations

import attrs

from rainengine.core.records._base import JsonObject
from rainengine.core.records._policy import CapabilityGrants, EffectClass, ResourcePolicy


@attrs.frozen(kw_only=True)
class SkillManifest:
    """A skill's name, contract and needs.

    `input_schema` is JSON Schema, draft 2020-12.
    `effects` says what running it twice does; `unsafe` unless the author promises more.
    The circuit breaker opens where `failures / calls` of the last 20 reaches the threshold.
    """

    name: str
    description: str
    input_schema: JsonObject
    version: str = "1"
    effects: EffectClass = "unsafe"
    required_scopes: tuple[str, ...] = ()
    capability_grants: CapabilityGrants = CapabilityGrants()
    resource_policy: ResourcePolicy = ResourcePolicy()
    approval_required: bool = False
    circuit_breaker_threshold: float = 0.5
