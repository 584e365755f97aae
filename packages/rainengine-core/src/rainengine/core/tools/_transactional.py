"""The decorator that makes a transactional skill of a function, and what an engine asks of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeGuard, TypeVar, cast, overload

from rainengine.core.abc import AnySkill, Skill, Transaction, TransactionalSkill
from rainengine.core.errors import InvalidSkill
from rainengine.core.records import ResourcePolicy, RetryPolicy, SkillManifest
from rainengine.core.tools._manifests import Declaration, names_of_caller
from rainengine.core.tools._native import AskApproval, NativeTransactionalSkill
from rainengine.core.tools._signatures import Signature

P = ParamSpec("P")
R = TypeVar("R")

TRANSACTION_MS = 250
"""How long a transaction may take unless it is told otherwise: others wait for it meanwhile."""


@overload
def transactional_skill(
    function: Callable[Concatenate[Transaction[Any], P], R], /
) -> NativeTransactionalSkill[Concatenate[Transaction[Any], P], R]: ...


@overload
def transactional_skill(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str = "1",
    scopes: Sequence[str] = (),
    timeout_ms: int = TRANSACTION_MS,
    retry: RetryPolicy | None = None,
    priority: int = 0,
    approval_required: bool | AskApproval = False,
    circuit_breaker_threshold: float = 0.5,
) -> Callable[
    [Callable[Concatenate[Transaction[Any], P], R]],
    NativeTransactionalSkill[Concatenate[Transaction[Any], P], R],
]: ...


def transactional_skill(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    version: str = "1",
    scopes: Sequence[str] = (),
    timeout_ms: int = TRANSACTION_MS,
    retry: RetryPolicy | None = None,
    priority: int = 0,
    approval_required: bool | AskApproval = False,
    circuit_breaker_threshold: float = 0.5,
) -> Any:
    """Make a skill of a function that does nothing but run statements on the ledger's database.

    What it writes, its result and what it publishes are stored in one transaction: exactly once,
    whatever crashes. Its first parameter is the `Transaction`; for the others, and the options,
    see `skill`. The function is a plain `def`, begins and ends no transaction, and leaves the
    tables `rainengine_*` alone. Where it raises, everything is rolled back.

    `timeout_ms` bounds one attempt. On SQLite no append of any session gets through meanwhile.
    Dry runs are always supported: they are rolled back.

    Raises `InvalidSkill`, naming the skill and what to change.
    """
    declaration = Declaration(
        name=name,
        description=description,
        version=version,
        scopes=scopes,
        effects="transactional",
        resources=ResourcePolicy(
            timeout_ms=timeout_ms,
            priority_class=priority,
            retry_policy=retry or RetryPolicy(),
            dry_run_supported=True,
        ),
        approval_required=approval_required,
        circuit_breaker_threshold=circuit_breaker_threshold,
    )

    def decorate(undecorated: Callable[..., Any]) -> NativeTransactionalSkill[..., Any]:
        return make(undecorated, names_of_caller())

    def make(
        undecorated: Callable[..., Any], beside: Mapping[str, Any]
    ) -> NativeTransactionalSkill[..., Any]:
        manifest, signature = declaration.read(undecorated, beside)
        _check_first_parameter(manifest, signature, undecorated)
        _check_plain(manifest, undecorated)
        return NativeTransactionalSkill(
            undecorated, manifest, signature, approval_reason=declaration.asks
        )

    return decorate if function is None else make(function, names_of_caller())


def _check_first_parameter(
    manifest: SkillManifest, signature: Signature, function: Callable[..., Any]
) -> None:
    first = next(iter(inspect.signature(function).parameters), None)
    injected = [name for name, what in signature.injected.items() if what == "transaction"]
    if injected != [first]:
        raise InvalidSkill(
            manifest.name,
            "its first parameter, and no other, must be the transaction:"
            " annotate it with Transaction[sqlite3.Connection], or your driver's connection",
        )


def _check_plain(manifest: SkillManifest, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise InvalidSkill(
            manifest.name,
            "it is async, and a transaction runs in a thread: write `def`, and leave whatever"
            " has to be awaited to another skill",
        )


def is_transactional(skill: AnySkill) -> TypeGuard[TransactionalSkill]:
    """Whether a registered skill runs in the ledger's transactions."""
    return skill.manifest.effects == "transactional"


def check_transactional(skill: AnySkill, *, capable: bool) -> None:
    """Raise `InvalidSkill` where a skill's kind and its manifest, or the ledger, do not agree.

    `capable` says that the ledger has `abc.Transactions`.
    """
    name, claimed = skill.manifest.name, is_transactional(skill)
    if not isinstance(cast("object", skill), TransactionalSkill if claimed else Skill):
        method = "apply" if claimed else "invoke"
        raise InvalidSkill(name, f"its effects are {skill.manifest.effects}: it needs {method}()")
    if not claimed:
        return
    _check_plain(skill.manifest, cast("TransactionalSkill", skill).apply)
    if not capable:
        raise InvalidSkill(
            name,
            "runs in the ledger's own transactions, which this ledger does not have: open one of"
            " rainengine.store_sqlite or rainengine.store_pg, or make it an idempotent skill",
        )
