"""Wrappers that can do whatever the thing they wrap can do.

What a ledger can do beyond appending and reading is found out with `isinstance`,
which since Python 3.12 does not look at `__getattr__`.
So a wrapper's class is made for the class that it wraps: it has each of its public methods,
and capabilities that are yet to be invented pass through as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache, wraps
from typing import Any, TypeAlias, cast

from rainengine.core.abc import (
    Appended,
    Enclosed,
    LeaseChange,
    Ledger,
    LedgerStore,
    OutboxItem,
    SessionIndex,
    SessionPage,
    SessionQuery,
    Transactions,
)
from rainengine.core.records import Head, NewRecord, OutcomeRecord, StoredRecord

Send: TypeAlias = Callable[[], Awaitable[Appended]]
"""Passes on the append that a wrapper stands before."""


class Forwarding:
    """Something that stands before `inner` and passes on what it does not do itself."""

    _inner: Ledger

    def __init__(self, inner: Ledger) -> None:
        own: Any = type(self)
        self.__class__ = _covering(own, type(inner))
        self._inner = inner
        self._tenants: dict[str, Ledger] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} before {self._inner!r}>"

    def before_forwarding(self) -> None:
        """Called before anything is passed on; may raise."""

    def beside(self, inner: Ledger) -> Ledger:
        """Return what stands before another tenant's ledger and shares this one's fate."""
        raise NotImplementedError

    @property
    def wrapped(self) -> Ledger:
        """The ledger that this one stands before."""
        return self._inner

    @property
    def tenant(self) -> str:
        """The tenant whose sessions these are."""
        return self._inner.tenant

    @property
    def max_payload_bytes(self) -> int:
        """The largest JSON text of a record that the ledger takes, in bytes."""
        return self._inner.max_payload_bytes

    async def append(
        self,
        session_id: str,
        records: Sequence[NewRecord],
        *,
        expected: Head | None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        index: SessionIndex | None = None,
        outbox: Sequence[OutboxItem] = (),
    ) -> Appended:
        """Append, in the way of `around_append`."""

        async def send() -> Appended:
            return await self._inner.append(
                session_id,
                records,
                expected=expected,
                fence=fence,
                lease=lease,
                index=index,
                outbox=outbox,
            )

        return await self.around_append(session_id, records, send)

    async def around_append(
        self, session_id: str, records: Sequence[NewRecord], send: Send
    ) -> Appended:
        """What happens around an append; `send` passes it on.

        The records of a transaction are known only once it has run.
        """
        return await send()

    async def wrapped_transact(
        self,
        session_id: str,
        work: Callable[[Any], Enclosed],
        **how: Any,  # noqa: ANN401 - handed on as it is
    ) -> Appended:
        """What a wrapper of a ledger with transactions has for `transact`: it is an append too."""
        records: list[NewRecord] = []

        def noting(connection: object) -> Enclosed:
            enclosed = work(connection)
            records[:] = enclosed.records
            return enclosed

        async def send() -> Appended:
            return await cast(Transactions, self._inner).transact(session_id, noting, **how)

        return await self.around_append(session_id, records, send)

    async def read(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[StoredRecord]:
        """Return up to `limit` records with sequences above `after`, in order."""
        self.before_forwarding()
        return await self._inner.read(session_id, after=after, limit=limit)

    async def head(self, session_id: str) -> Head:
        """Return the session's head."""
        self.before_forwarding()
        return await self._inner.head(session_id)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of the tenant's sessions."""
        self.before_forwarding()
        return await self._inner.list_sessions(query)

    async def find_outcome(self, session_id: str, idempotency_key: str) -> OutcomeRecord | None:
        """Return the newest outcome of the run whose trigger has this key."""
        self.before_forwarding()
        return await self._inner.find_outcome(session_id, idempotency_key)

    def wrapped_tenant(self, tenant: str) -> Ledger:
        """What a wrapper of a store has for `for_tenant`."""
        self.before_forwarding()
        inner = cast(LedgerStore, self._inner).for_tenant(tenant)
        if inner is self._inner:
            return self._as_ledger()
        if tenant not in self._tenants:
            self._tenants[tenant] = self.beside(inner)
        return self._tenants[tenant]

    def _as_ledger(self) -> Ledger:
        return cast(Ledger, self)


_WRAPPED = {"for_tenant": Forwarding.wrapped_tenant, "transact": Forwarding.wrapped_transact}


@cache
def _covering(wrapper: Any, wrapped: Any) -> Any:  # noqa: ANN401 - classes made at run time
    names = [name for name in dir(wrapped) if name[0] != "_" and not hasattr(wrapper, name)]
    methods = {name: _forward(name, getattr(wrapped, name)) for name in names}
    return type(wrapper.__name__, (wrapper,), methods)


def _forward(name: str, original: object) -> object:
    def forward(self: Forwarding, *args: object, **kwargs: object) -> object:
        self.before_forwarding()
        return getattr(self.wrapped, name)(*args, **kwargs)

    def fetch(self: Forwarding) -> object:
        self.before_forwarding()
        return getattr(self.wrapped, name)

    if name in _WRAPPED:
        return _WRAPPED[name]
    if not callable(original):
        return property(fetch)
    return wraps(original)(forward)
