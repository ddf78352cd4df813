"""What is missing from the log, from what each segment says of itself and what shows between two of a stream. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from headway.adapters.querylog.manifest import Account
from headway.adapters.querylog.segments import CLOCK_STEP_NS, SegmentReader
from headway.domain.query_log import Losses


def account_of(reader: SegmentReader) -> Account:
    """What is known of a segment besides its records."""
    return Account(
        stream=reader.stream,
        number=reader.number,
        start_seq=reader.start_seq or 0,
        next_seq=reader.next_seq or 0,
        dropped=reader.dropped,
        torn=int(reader.torn),
        missing=reader.missing,
        clock_steps=reader.clock_steps,
        first_offset_ns=reader.first_offset_ns or 0,
        last_offset_ns=reader.offset_ns or 0,
    )


def losses_of(accounts: Iterable[Account]) -> Losses:
    """All of them together. An account may be there twice."""
    lost = Losses()
    before: Account | None = None
    for account in sorted({(a.stream, a.number): a for a in accounts}.values(), key=lambda a: (a.stream, a.number)):
        if before is not None and before.stream != account.stream:
            before = None
        missing, steps = account.missing, account.clock_steps
        if account.next_seq:
            # What comes before the first segment that is known has become too old, unless it is the stream's first.
            expected = before.next_seq if before else 0 if account.number == 0 else account.start_seq
            missing += max(0, account.start_seq - expected)
        if before is not None and before.last_offset_ns and account.first_offset_ns:
            steps += account.first_offset_ns - before.last_offset_ns < -CLOCK_STEP_NS
        lost += Losses(dropped=account.dropped, torn=account.torn, missing=missing, clock_steps=steps)
        if before is None or account.next_seq:
            before = account
    return lost


def grown(before: Losses, now: Losses) -> Losses:
    """What came in between; never below 0."""
    return Losses(
        dropped=max(0, now.dropped - before.dropped),
        torn=max(0, now.torn - before.torn),
        missing=max(0, now.missing - before.missing),
        clock_steps=max(0, now.clock_steps - before.clock_steps),
    )
