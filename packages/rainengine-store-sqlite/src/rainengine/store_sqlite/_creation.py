"""Putting the schema into a new database without SQLAlchemy, whose import takes half a second.

The text is what the migrations make of an empty database; a test compares the two.
"""

from __future__ import annotations

TABLES = """
CREATE TABLE rainengine_records (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    occurred_at_ms BIGINT NOT NULL,
    trigger_id TEXT,
    idempotency_key TEXT,
    payload TEXT NOT NULL,
    hash BLOB NOT NULL,
    CONSTRAINT rainengine_records_pk PRIMARY KEY (tenant, session_id, sequence)
);
CREATE UNIQUE INDEX rainengine_records_trigger_key
    ON rainengine_records (tenant, session_id, idempotency_key)
    WHERE kind = 'trigger' AND idempotency_key IS NOT NULL;
CREATE INDEX rainengine_records_outcome
    ON rainengine_records (tenant, session_id, trigger_id, sequence)
    WHERE kind = 'outcome';
CREATE TABLE rainengine_sessions (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    head BIGINT NOT NULL,
    hash BLOB NOT NULL,
    fence BIGINT NOT NULL,
    lease_owner TEXT,
    lease_expires_at_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    agent TEXT,
    wake_due_at_ms BIGINT,
    first_recorded_at_ms BIGINT NOT NULL,
    last_recorded_at_ms BIGINT NOT NULL,
    CONSTRAINT rainengine_sessions_pk PRIMARY KEY (tenant, session_id)
) WITHOUT ROWID;
CREATE INDEX rainengine_sessions_wake
    ON rainengine_sessions (wake_due_at_ms, tenant, session_id)
    WHERE wake_due_at_ms IS NOT NULL;
CREATE INDEX rainengine_sessions_running
    ON rainengine_sessions (tenant, session_id)
    WHERE state = 'running';
CREATE INDEX rainengine_sessions_waking
    ON rainengine_sessions (tenant, session_id, wake_due_at_ms)
    WHERE wake_due_at_ms IS NOT NULL;
CREATE TABLE rainengine_snapshots (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    projection_version BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL,
    payload TEXT NOT NULL,
    CONSTRAINT rainengine_snapshots_pk PRIMARY KEY (tenant, session_id, projection_version)
) WITHOUT ROWID;
CREATE TABLE rainengine_outbox (
    tenant TEXT NOT NULL,
    session_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at_ms BIGINT NOT NULL,
    claimed_until_ms BIGINT,
    delivered_at_ms BIGINT,
    dead_at_ms BIGINT,
    last_error TEXT,
    claims BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT rainengine_outbox_pk PRIMARY KEY (tenant, session_id, sequence, ordinal)
) WITHOUT ROWID;
CREATE INDEX rainengine_outbox_due
    ON rainengine_outbox (due_at_ms, tenant, session_id, sequence, ordinal)
    WHERE delivered_at_ms IS NULL AND dead_at_ms IS NULL;
CREATE INDEX rainengine_outbox_topic
    ON rainengine_outbox (tenant, session_id, topic, sequence, ordinal)
    WHERE delivered_at_ms IS NULL AND dead_at_ms IS NULL;
CREATE INDEX rainengine_outbox_dead
    ON rainengine_outbox (tenant, session_id, sequence, ordinal)
    WHERE dead_at_ms IS NOT NULL;
CREATE INDEX rainengine_outbox_delivered
    ON rainengine_outbox (delivered_at_ms)
    WHERE delivered_at_ms IS NOT NULL;
CREATE TABLE rainengine_skills (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    manifest TEXT NOT NULL,
    wasm BLOB NOT NULL,
    active BOOLEAN NOT NULL,
    CONSTRAINT rainengine_skills_pk PRIMARY KEY (tenant, name, digest)
) WITHOUT ROWID;
CREATE TABLE rainengine_schema (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT rainengine_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO rainengine_schema (version_num) VALUES ('0002')
"""
