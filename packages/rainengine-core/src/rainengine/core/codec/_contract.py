"""Records to plain values and back, by cattrs: the contract that the fast path has to agree with.

Use this converter where values cross a boundary of your own (HTTP, configuration, another
language): it takes your hooks, and its output for a record is what the ledger stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rainengine.core.codec._families import FAMILIES

if TYPE_CHECKING:
    from cattrs import Converter


def make_converter() -> Converter:
    """Return a new cattrs converter that knows triggers, actions, events and all records."""
    # cattrs is needed at the edges only; importing it here keeps it off the start-up path.
    from cattrs.preconf.json import make_converter as make_json_converter

    converter = make_json_converter()
    for family, members in FAMILIES.items():
        for member in members.values():
            converter.register_unstructure_hook(member, _tagged(converter, member))
        # By identity: a hook for the class itself would be inherited by its members.
        converter.register_structure_hook_func(_is(family), _by_type(converter, members))
        converter.register_unstructure_hook(family, converter.unstructure)
    return converter


def _is(family: type[Any]) -> Callable[[Any], bool]:
    return lambda shape: shape is family


def _by_type(converter: Converter, members: dict[str, type[Any]]) -> Callable[[Any, Any], Any]:
    return lambda value, _: converter.structure(value, members[value["type"]])


def _tagged(converter: Converter, member: type[Any]) -> Any:
    from cattrs.gen import make_dict_unstructure_fn

    return make_dict_unstructure_fn(member, converter, _cattrs_include_init_false=True)
