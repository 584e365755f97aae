"""Checks of leases and fences."""

from __future__ import annotations

from rainengine.core.abc import LeaseChange
from rainengine.core.errors import FenceLost, InadmissibleValue, LeaseHeld
from rainengine.core.testing._expect import expect, expect_equal, refusal
from rainengine.core.testing._maker import FullLedger, LedgerMaker, one_ledger, two_ledgers
from rainengine.core.testing._samples import OTHER_HEAD, cancel, note, trigger

HOUR_MS = 3_600_000
SHORT_MS = 50

TAKE = LeaseChange("take", "a", HOUR_MS)
TAKE_BRIEFLY = LeaseChange("take", "a", SHORT_MS)
TAKE_BY_B = LeaseChange("take", "b", HOUR_MS)


async def check_nobody_holds_a_new_session(maker: LedgerMaker) -> None:
    """A session that nobody took has no owner and fence 0."""
    async with one_ledger(maker) as ledger:
        lease = await ledger.lease_of("s")
        expect_equal((None, 0), (lease.owner, lease.fence), "owner and fence")
        expect_equal(await ledger.head("s"), lease.head, "head in the lease")


async def check_a_lease_is_taken_with_an_append(maker: LedgerMaker) -> None:
    """`take` makes the owner the holder and raises the fence from 0 to 1."""
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [trigger(), note()], expected=None, lease=TAKE)
        lease = await ledger.lease_of("s")
        expect_equal(1, done.fence, "fence returned")
        expect_equal(("a", 1, done.head), (lease.owner, lease.fence, lease.head), "lease")
        expect(lease.expires_at_ms > 0, "the lease expires some time")


async def check_a_lease_is_taken_without_records(maker: LedgerMaker) -> None:
    """A lease may be taken and freed by appends without records; the head stays."""
    async with one_ledger(maker) as ledger:
        before = await ledger.append("s", [note()], expected=None)
        taken = await ledger.append("s", [], expected=before.head, lease=TAKE)
        expect_equal((before.head, 1), (taken.head, taken.fence), "after taking")
        freed = await ledger.append(
            "s", [], expected=before.head, fence=1, lease=LeaseChange("free", "a")
        )
        expect_equal((before.head, 1), (freed.head, freed.fence), "after freeing")
        expect_equal(None, (await ledger.lease_of("s")).owner, "owner after freeing")


async def check_a_new_session_is_taken_without_records(maker: LedgerMaker) -> None:
    """A lease on a session without records survives until its first record."""
    async with one_ledger(maker) as ledger:
        empty = await ledger.head("s")
        taken = await ledger.append("s", [], expected=empty, lease=TAKE)
        expect_equal((empty, 1), (taken.head, taken.fence), "after taking")
        async with refusal(ledger, "s", LeaseHeld, "another owner"):
            await ledger.append("s", [], expected=None, lease=TAKE_BY_B)
        done = await ledger.append("s", [note()], expected=empty, fence=1)
        expect_equal((1, 1), (done.head.sequence, done.fence), "the first record under it")


async def check_an_append_without_anything_is_refused(maker: LedgerMaker) -> None:
    """An append of no records and no lease change is `InadmissibleValue`."""
    async with (
        one_ledger(maker) as ledger,
        refusal(ledger, "s", InadmissibleValue, "empty append"),
    ):
        await ledger.append("s", [], expected=None)


async def check_a_held_lease_is_not_taken(maker: LedgerMaker) -> None:
    """Another owner's `take` raises `LeaseHeld`, through any handle, and names the holder."""
    async with two_ledgers(maker) as (one, other):
        await one.append("s", [trigger()], expected=None, lease=TAKE)
        async with refusal(other, "s", LeaseHeld, "take by another owner"):
            await other.append("s", [note()], expected=None, lease=TAKE_BY_B)
        async with refusal(other, "s", LeaseHeld, "take by another owner who saw the fence"):
            await other.append("s", [note()], expected=None, fence=1, lease=TAKE_BY_B)
        lease = await one.lease_of("s")
        try:
            await other.append("s", [trigger()], expected=None, lease=TAKE_BY_B)
        except LeaseHeld as error:
            facts = (error.session_id, error.owner, error.expires_at_ms)
            expect_equal(("s", "a", lease.expires_at_ms), facts, "facts in the error")


async def check_an_owner_retakes_its_lease_at_once(maker: LedgerMaker) -> None:
    """The holder itself may take again, with or without its fence; the fence rises each time."""
    async with two_ledgers(maker) as (one, other):
        await one.append("s", [trigger()], expected=None, lease=TAKE)
        again = await other.append("s", [note()], expected=None, fence=1, lease=TAKE)
        expect_equal(2, again.fence, "fence after retaking")
        restarted = await other.append("s", [note()], expected=again.head, lease=TAKE)
        expect_equal(3, restarted.fence, "fence after retaking without a fence")
        async with refusal(one, "s", FenceLost, "append under the fence before"):
            await one.append("s", [note()], expected=restarted.head, fence=1)


async def check_an_expired_lease_is_taken_over(maker: LedgerMaker) -> None:
    """Once a lease has expired anybody may take it, and the fence rises."""
    async with two_ledgers(maker) as (one, other):
        done = await one.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        await maker.let_pass(2 * SHORT_MS)
        taken = await other.append("s", [note()], expected=done.head, fence=1, lease=TAKE_BY_B)
        lease = await other.lease_of("s")
        expect_equal((2, "b", 2), (taken.fence, lease.owner, lease.fence), "after the takeover")


async def check_an_expired_lease_still_names_its_owner(maker: LedgerMaker) -> None:
    """Until somebody takes or frees it, an expired lease says whose it was."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        before = await ledger.lease_of("s")
        await maker.let_pass(2 * SHORT_MS)
        expect_equal(before, await ledger.lease_of("s"), "lease after its expiry")


async def check_an_expired_lease_holds_nobody_up(maker: LedgerMaker) -> None:
    """Beside an expired lease, records of any kind are appended without a fence."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        await maker.let_pass(2 * SHORT_MS)
        done = await ledger.append("s", [note()], expected=None)
        expect_equal((2, 1), (done.head.sequence, done.fence), "head and fence")


async def check_a_late_holder_still_writes_while_its_fence_is_newest(maker: LedgerMaker) -> None:
    """An expired lease that nobody took still lets its holder append and extend."""
    extend = LeaseChange("extend", "a", HOUR_MS)
    async with one_ledger(maker) as ledger:
        done = await ledger.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        await maker.let_pass(2 * SHORT_MS)
        again = await ledger.append("s", [note()], expected=done.head, fence=1, lease=extend)
        expect_equal(1, again.fence, "fence, which only an acquisition raises")
        async with refusal(ledger, "s", LeaseHeld, "take after the late extension"):
            await ledger.append("s", [note()], expected=None, lease=TAKE_BY_B)


async def check_a_stale_fence_is_refused_even_at_the_head(maker: LedgerMaker) -> None:
    """A holder that was overtaken is refused with `FenceLost` although it knows the head."""
    async with two_ledgers(maker) as (one, other):
        await one.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        await maker.let_pass(2 * SHORT_MS)
        taken = await other.append("s", [note()], expected=None, lease=TAKE_BY_B)
        for lease in (None, LeaseChange("extend", "a", HOUR_MS), LeaseChange("free", "a"), TAKE):
            async with refusal(one, "s", FenceLost, f"stale fence with {lease}"):
                await one.append("s", [note()], expected=taken.head, fence=1, lease=lease)
        async with refusal(one, "s", FenceLost, "intake under a stale fence"):
            await one.append("s", [cancel()], expected=None, fence=1)
        try:
            await one.append("s", [note()], expected=taken.head, fence=1)
        except FenceLost as error:
            facts = (error.session_id, error.fence, error.current)
            expect_equal(("s", 1, 2), facts, "facts in the error")


async def check_a_fence_that_was_never_given_is_refused(maker: LedgerMaker) -> None:
    """A fence from another history, above the newest, is `FenceLost` too."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        async with refusal(ledger, "s", FenceLost, "fence above the newest"):
            await ledger.append("s", [note()], expected=None, fence=2)


async def check_the_fence_survives_a_free_lease(maker: LedgerMaker) -> None:
    """Freeing keeps the fence: the next acquisition raises it further."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        freed = await ledger.append(
            "s", [note()], expected=None, fence=1, lease=LeaseChange("free", "a")
        )
        lease = await ledger.lease_of("s")
        expect_equal((1, None, 1), (freed.fence, lease.owner, lease.fence), "after freeing")
        taken = await ledger.append("s", [note()], expected=None, fence=1, lease=TAKE_BY_B)
        expect_equal(2, taken.fence, "fence after the next acquisition")


async def check_an_extended_lease_outlasts_its_first_span(maker: LedgerMaker) -> None:
    """`extend` lets the lease run on from now without raising the fence."""
    extend = LeaseChange("extend", "a", HOUR_MS)
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        done = await ledger.append("s", [note()], expected=None, fence=1, lease=extend)
        expect_equal(1, done.fence, "fence after the extension")
        await maker.let_pass(2 * SHORT_MS)
        async with refusal(ledger, "s", LeaseHeld, "take after the first span"):
            await ledger.append("s", [note()], expected=None, lease=TAKE_BY_B)


async def check_only_the_holder_changes_its_lease(maker: LedgerMaker) -> None:
    """Extending or freeing somebody else's lease raises `LeaseHeld`."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        for lease in (LeaseChange("extend", "b", HOUR_MS), LeaseChange("free", "b")):
            for fence in (None, 1):
                async with refusal(ledger, "s", LeaseHeld, f"{lease} under fence {fence}"):
                    await ledger.append("s", [cancel()], expected=None, fence=fence, lease=lease)


async def check_a_lease_that_nobody_has_is_only_taken(maker: LedgerMaker) -> None:
    """Where nobody has the lease, extending and freeing raise `FenceLost`, whoever asks."""
    async with one_ledger(maker) as ledger:
        await _refuse_changes(ledger, "a new session", ("a", None), ("a", 0))
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        await ledger.append("s", [note()], expected=None, fence=1, lease=LeaseChange("free", "a"))
        await _refuse_changes(ledger, "a freed session", ("a", None), ("a", 1), ("b", None))


async def check_an_expired_lease_is_changed_by_its_owner_only(maker: LedgerMaker) -> None:
    """Extending or freeing an expired lease needs its owner and the fence, else `FenceLost`."""
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        await maker.let_pass(2 * SHORT_MS)
        await _refuse_changes(ledger, "an expired lease", ("b", None), ("b", 1), ("a", None))
        for lease in (LeaseChange("extend", "b", HOUR_MS), LeaseChange("free", "b")):
            async with refusal(ledger, "s", FenceLost, f"{lease} before a wrong head"):
                await ledger.append("s", [note()], expected=OTHER_HEAD, fence=1, lease=lease)
        freed = await ledger.append(
            "s", [note()], expected=None, fence=1, lease=LeaseChange("free", "a")
        )
        expect_equal(2, freed.head.sequence, "head after its owner has freed it")


async def _refuse_changes(ledger: FullLedger, what: str, *by: tuple[str, int | None]) -> None:
    for owner, fence in by:
        for lease in (LeaseChange("extend", owner, HOUR_MS), LeaseChange("free", owner)):
            for records in ([], [note()], [cancel()]):
                told = f"{what}: {lease} under fence {fence} with {len(records)} records"
                async with refusal(ledger, "s", FenceLost, told):
                    await ledger.append("s", records, expected=None, fence=fence, lease=lease)


async def check_intake_passes_a_holder(maker: LedgerMaker) -> None:
    """Triggers and cancel requests are appended without a fence beside a holder."""
    async with two_ledgers(maker) as (one, other):
        held = await one.append("s", [trigger(), note()], expected=None, lease=TAKE)
        done = await other.append("s", [trigger("key"), cancel()], expected=None)
        expect_equal((3, 4), (done.first_sequence, done.head.sequence), "place of the intake")
        lease = await one.lease_of("s")
        expect_equal(("a", 1), (lease.owner, lease.fence), "the holder stays")
        expect(done.head != held.head, "the head moved")


async def check_other_records_do_not_pass_a_holder(maker: LedgerMaker) -> None:
    """Records other than intake raise `LeaseHeld` without a fence, alone or amid intake."""
    async with one_ledger(maker) as ledger:
        held = await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        for batch in ([note()], [cancel(), note()], [note(), trigger("key")]):
            async with refusal(ledger, "s", LeaseHeld, f"{len(batch)} records"):
                await ledger.append("s", batch, expected=held.head)
        for lease in (LeaseChange("extend", "a", HOUR_MS), LeaseChange("free", "a")):
            async with refusal(ledger, "s", LeaseHeld, f"{lease} of the holder without a fence"):
                await ledger.append("s", [note()], expected=held.head, lease=lease)
        done = await ledger.append("s", [note()], expected=held.head, fence=1)
        expect_equal(2, done.head.sequence, "head after the holder's own append")


async def check_a_heartbeat_extends_and_shows_the_head(maker: LedgerMaker) -> None:
    """A heartbeat lets the lease run on and returns the head, which shows what came in."""
    async with two_ledgers(maker) as (one, other):
        await one.append("s", [trigger()], expected=None, lease=TAKE_BRIEFLY)
        intake = await other.append("s", [cancel()], expected=None)
        head = await one.heartbeat("s", owner="a", fence=1, ttl_ms=HOUR_MS)
        expect_equal(intake.head, head, "head from the heartbeat")
        await maker.let_pass(2 * SHORT_MS)
        async with refusal(other, "s", LeaseHeld, "take after the first span"):
            await other.append("s", [note()], expected=None, lease=TAKE_BY_B)


async def check_a_heartbeat_of_a_lost_lease_raises(maker: LedgerMaker) -> None:
    """A heartbeat under a stale fence, another name, or after freeing raises `FenceLost`."""
    async with one_ledger(maker) as ledger:
        async with refusal(ledger, "s", FenceLost, "nobody's lease"):
            await ledger.heartbeat("s", owner="a", fence=1, ttl_ms=HOUR_MS)
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        await ledger.append("s", [note()], expected=None, lease=TAKE)
        async with refusal(ledger, "s", FenceLost, "stale fence"):
            await ledger.heartbeat("s", owner="a", fence=1, ttl_ms=HOUR_MS)
        async with refusal(ledger, "s", FenceLost, "another owner"):
            await ledger.heartbeat("s", owner="b", fence=2, ttl_ms=HOUR_MS)
        await ledger.release("s", owner="a", fence=2)
        async with refusal(ledger, "s", FenceLost, "freed lease"):
            await ledger.heartbeat("s", owner="a", fence=2, ttl_ms=HOUR_MS)


async def check_a_release_frees_only_ones_own_lease(maker: LedgerMaker) -> None:
    """`release` frees this owner's lease under this fence, and otherwise does nothing."""
    async with one_ledger(maker) as ledger:
        await ledger.release("s", owner="a", fence=0)
        await ledger.append("s", [trigger()], expected=None, lease=TAKE)
        for owner, fence in (("b", 1), ("a", 0), ("a", 2)):
            await ledger.release("s", owner=owner, fence=fence)
            expect_equal("a", (await ledger.lease_of("s")).owner, f"after {owner}, {fence}")
        await ledger.release("s", owner="a", fence=1)
        lease = await ledger.lease_of("s")
        expect_equal((None, 1), (lease.owner, lease.fence), "after the owner's release")
        await ledger.append("s", [note()], expected=None, lease=TAKE_BY_B)


CHECKS = (
    check_nobody_holds_a_new_session,
    check_a_lease_is_taken_with_an_append,
    check_a_lease_is_taken_without_records,
    check_a_new_session_is_taken_without_records,
    check_an_append_without_anything_is_refused,
    check_a_held_lease_is_not_taken,
    check_an_owner_retakes_its_lease_at_once,
    check_an_expired_lease_is_taken_over,
    check_an_expired_lease_still_names_its_owner,
    check_an_expired_lease_holds_nobody_up,
    check_a_late_holder_still_writes_while_its_fence_is_newest,
    check_a_stale_fence_is_refused_even_at_the_head,
    check_a_fence_that_was_never_given_is_refused,
    check_the_fence_survives_a_free_lease,
    check_an_extended_lease_outlasts_its_first_span,
    check_only_the_holder_changes_its_lease,
    check_a_lease_that_nobody_has_is_only_taken,
    check_an_expired_lease_is_changed_by_its_owner_only,
    check_intake_passes_a_holder,
    check_other_records_do_not_pass_a_holder,
    check_a_heartbeat_extends_and_shows_the_head,
    check_a_heartbeat_of_a_lost_lease_raises,
    check_a_release_frees_only_ones_own_lease,
)
