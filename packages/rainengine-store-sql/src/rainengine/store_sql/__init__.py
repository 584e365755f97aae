"""What the SQL stores share: the ledger's schema, its migrations, and the group-commit writer.

An edge such as `rainengine.store_sqlite` implements `Dialect` and calls `open_store`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rainengine.store_sql._commits import LedgerStats as LedgerStats
from rainengine.store_sql._decoding import session_row as session_row
from rainengine.store_sql._dialect import Batch as Batch
from rainengine.store_sql._dialect import Committed as Committed
from rainengine.store_sql._dialect import CommitUnknown as CommitUnknown
from rainengine.store_sql._dialect import Connection as Connection
from rainengine.store_sql._dialect import Cursor as Cursor
from rainengine.store_sql._dialect import Dialect as Dialect
from rainengine.store_sql._dialect import Loan as Loan
from rainengine.store_sql._drafts import Draft as Draft
from rainengine.store_sql._judgement import Change as Change
from rainengine.store_sql._judgement import Verdict as Verdict
from rainengine.store_sql._judgement import judge as judge
from rainengine.store_sql._ledger import SqlLedger as SqlLedger
from rainengine.store_sql._options import above_0 as above_0
from rainengine.store_sql._options import check_positive as check_positive
from rainengine.store_sql._options import read_flag as read_flag
from rainengine.store_sql._options import read_number as read_number
from rainengine.store_sql._options import read_settings as read_settings
from rainengine.store_sql._options import setting_kinds as setting_kinds
from rainengine.store_sql._rows import Key as Key
from rainengine.store_sql._rows import OutboxRow as OutboxRow
from rainengine.store_sql._rows import RecordRow as RecordRow
from rainengine.store_sql._rows import SessionRow as SessionRow
from rainengine.store_sql._rows import SnapshotRow as SnapshotRow
from rainengine.store_sql._rows import Value as Value
from rainengine.store_sql._rows import absent as absent
from rainengine.store_sql._sql_store import SqlLedgerStore as SqlLedgerStore
from rainengine.store_sql._store import StoreSettings as StoreSettings
from rainengine.store_sql._store import open_store as open_store
from rainengine.store_sql._transactions import Transactor as Transactor
from rainengine.store_sql._versions import SCHEMA_VERSION as SCHEMA_VERSION
from rainengine.store_sql._versions import SELECT_VERSION as SELECT_VERSION
from rainengine.store_sql._versions import VERSION_TABLE as VERSION_TABLE
from rainengine.store_sql._versions import check_unclaimed as check_unclaimed
from rainengine.store_sql._versions import check_version as check_version
from rainengine.store_sql._versions import is_older as is_older
from rainengine.store_sql._watch import Heard as Heard
from rainengine.store_sql._watch import Signals as Signals

if TYPE_CHECKING:
    from rainengine.store_sql._migrations import check_schema as check_schema
    from rainengine.store_sql._migrations import migrate as migrate
    from rainengine.store_sql._tables import metadata as metadata

_LAZY = {"check_schema": "_migrations", "migrate": "_migrations", "metadata": "_tables"}


def __getattr__(name: str) -> object:
    """Import what needs SQLAlchemy only when it is asked for: that takes half a second."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
