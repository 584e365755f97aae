"""Every stored tag and the class behind it. A tag, once released, is never changed or reused."""

from __future__ import annotations

from typing import Any

import attrs

from rainengine.core import records as r

RECORDS: dict[str, type[r.Record]] = {
    kind.kind: kind
    for kind in (
        r.TriggerRecord,
        r.TriggerIntent,
        r.KernelEventRecord,
        r.ModelDecision,
        r.Deliberation,
        r.ToolExecutionGraph,
        r.ToolNodeCheckpoint,
        r.SkillInputValidation,
        r.ToolCalls,
        r.ToolResult,
        r.PendingApproval,
        r.ApprovalResolution,
        r.Delegation,
        r.CoordinationClaim,
        r.ProviderUsage,
        r.ProviderCache,
        r.Reflection,
        r.PolicyTuning,
        r.StrategyPreference,
        r.ToolPerformance,
        r.ProfilePatch,
        r.ExecutionPlan,
        r.Summary,
        r.OutcomeRecord,
        r.CancelRequest,
    )
}


TRIGGERS = (
    r.ExternalEvent,
    r.ScheduledWake,
    r.HumanInput,
    r.SystemObservation,
    r.Webhook,
    r.RuleTrigger,
    r.ProactiveHeartbeat,
    r.Message,
    r.Approval,
    r.DoubtResolution,
    r.DelegationResult,
)

ACTIONS = (
    r.Plan,
    r.Respond,
    r.CallSkills,
    r.Continue,
    r.Yield,
    r.MemorySearch,
    r.MemoryArchive,
    r.Suspend,
    r.Delegate,
)

EVENTS = (
    r.GoalCreated,
    r.GoalStatusChanged,
    r.TaskPlanned,
    r.TaskClaimed,
    r.TaskBlocked,
    r.TaskCompleted,
    r.TaskFailed,
    r.TaskAbandoned,
    r.HumanInputRequested,
    r.ObservationAppended,
    r.ArtifactProduced,
    r.WakeRequested,
    r.WakeScheduled,
    r.WakeCompleted,
    r.DelegationRequested,
    r.DelegationResolved,
    r.ResourceRegistered,
    r.RelationshipObserved,
    r.MemorySearched,
    r.MemoryArchived,
)


def _by_type(members: tuple[type[Any], ...]) -> dict[str, type[Any]]:
    return {str(attrs.fields_dict(member)["type"].default): member for member in members}


FAMILIES: dict[type[Any], dict[str, type[Any]]] = {
    r.Trigger: _by_type(TRIGGERS),
    r.Action: _by_type(ACTIONS),
    r.KernelEvent: _by_type(EVENTS),
}
