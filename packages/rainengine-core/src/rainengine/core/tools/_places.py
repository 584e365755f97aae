"""Where the subschemas of a document are, and what its references lead to.

https://json-schema.org/draft/2020-12/json-schema-core (sections 8 and 9)
A subschema with an `$id` begins a resource of its own: references and anchors within it are
relative to that identifier. Nothing is fetched: an identifier is only a name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import attrs

from rainengine.core.tools._checks import is_array, is_object

MAX_SUBSCHEMAS = 2_000
MAX_SCHEMA_NESTING = 64
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ONE = (
    *("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
_LISTED = ("prefixItems", "allOf", "anyOf", "oneOf")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


class SchemaRefused(ValueError):
    """The schema is not one of draft 2020-12 that can be checked within bounds."""


@attrs.define(eq=False)
class Resource:
    """A schema with an identifier of its own, and the anchors in it."""

    uri: str
    root: Any
    anchors: dict[str, Any] = attrs.field(factory=dict[str, Any])
    dynamic: dict[str, Any] = attrs.field(factory=dict[str, Any])


class Document:
    """All subschemas of one schema. Raises `SchemaRefused` where it breaks a bound or a rule."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.is_dynamic = False
        self.parts: list[Any] = [root]
        self._home: dict[int, Resource] = {}
        self._resources: dict[str, Resource] = {}
        base = Resource("", root)
        self._resources[""] = base
        self._enter(root, base)

    def resource_of(self, schema: Any) -> Resource:
        """The resource that a subschema belongs to."""
        return self._home[id(schema)]

    def resources(self) -> list[Resource]:
        """All resources of the document."""
        return list({id(one): one for one in self._resources.values()}.values())

    def resolve(self, reference: str, resource: Resource) -> Any:
        """The subschema that a reference within `resource` leads to."""
        uri, fragment = _split(reference, resource.uri)
        found = self._resources.get(uri)
        if found is None:
            raise SchemaRefused(
                f"$ref {reference!r:.80} leads outside the document: put it in $defs"
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if fragment not in found.anchors:
                raise SchemaRefused(f"$ref {reference!r:.80} names an anchor that is not there")
            return found.anchors[fragment]
        return self._follow(found, fragment, reference)

    def _follow(self, resource: Resource, pointer: str, reference: str) -> Any:
        place: Any = resource.root
        home = resource
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                place = place[int(key)] if is_array(place) else place[key]
            except (LookupError, TypeError, ValueError) as error:
                text = f"$ref {reference!r:.80} leads to nothing"
                raise SchemaRefused(text) from error
            home = self._home.get(id(place), home)
        if isinstance(place, bool):
            return place
        if not is_object(place):
            raise SchemaRefused(f"$ref {reference!r:.80} leads to what is no schema")
        if id(place) not in self._home:
            self.parts.append(place)  # under a keyword that is none; a schema all the same
            self._enter(place, home)
        return place

    def _enter(self, root: Any, base: Resource) -> None:
        pending: list[tuple[Any, Resource, int]] = [(root, base, 0)]
        while pending:
            schema, home, depth = pending.pop()
            if not is_object(schema):
                continue
            if depth > MAX_SCHEMA_NESTING or len(self._home) >= MAX_SUBSCHEMAS:
                raise SchemaRefused(
                    f"has more than {MAX_SUBSCHEMAS} subschemas, or nests more than"
                    f" {MAX_SCHEMA_NESTING} of them"
                )
            self._home[id(schema)] = home = self._name(schema, home)
            pending += [(part, home, depth + 1) for part in _parts(schema)]

    def _name(self, schema: dict[str, Any], home: Resource) -> Resource:
        self.is_dynamic = self.is_dynamic or "$dynamicRef" in schema
        dialect = schema.get("$schema", DIALECT)
        if dialect not in (DIALECT, f"{DIALECT}#"):
            raise SchemaRefused(f"$schema is {dialect!r:.80}: only {DIALECT} is understood")
        if isinstance(schema.get("$id"), str):
            home = self._new_resource(schema, home)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(schema.get(keyword), str):
                _once(home.anchors, schema[keyword], schema, keyword)
        if isinstance(schema.get("$dynamicAnchor"), str):
            home.dynamic[schema["$dynamicAnchor"]] = schema
        return home

    def _new_resource(self, schema: dict[str, Any], home: Resource) -> Resource:
        uri, _ = _split(schema["$id"], home.uri)
        if schema is self.root:
            home.uri = uri
            self._resources[uri] = home
            return home
        resource = Resource(uri, schema)
        _once(self._resources, uri, resource, "$id")
        return resource


def _once(names: dict[str, Any], name: str, what: Any, keyword: str) -> None:
    if names.setdefault(name, what) is not what:
        raise SchemaRefused(f"{keyword} {name!r:.80} is given twice")


def _parts(schema: dict[str, Any]) -> list[Any]:
    parts = [schema[name] for name in _ONE if name in schema]
    for name in _LISTED:
        parts += schema[name] if isinstance(schema.get(name), list) else []
    for name in _NAMED:
        parts += schema[name].values() if isinstance(schema.get(name), dict) else []
    return parts


def _split(reference: str, base: str) -> tuple[str, str]:
    if reference.startswith("#"):  # urljoin loses the base where its scheme is not hierarchical
        return base, reference[1:]
    try:
        uri, fragment = urldefrag(urljoin(base, reference))
    except ValueError as error:
        raise SchemaRefused(f"{reference!r:.80} is no reference: {error}") from error
    return uri, fragment
