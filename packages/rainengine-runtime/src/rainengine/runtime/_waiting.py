"""Sessions that wait for a place, tenants taking turns."""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs

from rainengine.core.abc import DueSession


@attrs.define(eq=False)
class WaitingLine:
    """First come, first served within a tenant; and the tenants one after another."""

    _lines: OrderedDict[str, deque[DueSession]] = attrs.field(
        factory=OrderedDict[str, deque[DueSession]], init=False
    )
    _length: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        return self._length

    def push(self, session: DueSession) -> None:
        """Put a session at the end of its tenant's line."""
        self._lines.setdefault(session.tenant, deque()).append(session)
        self._length += 1

    def pop(self) -> DueSession:
        """Take the first session of the tenant whose turn it is. There has to be one."""
        tenant, line = self._lines.popitem(last=False)
        session = line.popleft()
        if line:
            self._lines[tenant] = line
        self._length -= 1
        return session
