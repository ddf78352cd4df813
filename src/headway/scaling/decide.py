"""One decision: every trigger proposes, the largest proposal wins, rules clamp it in a fixed order.

1. ``no_data``: while a trigger cannot tell, the count does not fall.
2. ``panic``: in a burst it does not fall either, and the burst's highest wish stays (Knative).
3. ``activation``: with ``minReplicas: 0``, work anywhere asks for one replica, and no work for the whole cooldown
   period asks for none, whatever else is wished (KEDA).
4. ``stabilization`` and 5. ``rate``: ``behavior`` (HPA). Whether the last replica goes is the cooldown period's affair
   alone: the stabilization window does not add to it.
6. ``activation`` from 0 upward: the first replica, and what held requests need, waits for no window and no rule.
7. ``cooldown``: with ``minReplicas: 0`` the last replica stays until nothing has been active for that long.
8. ``full``: while replicas wait for a place, none is added: that the present ones are too few is known already.
9. ``minReplicas``, ``maxReplicas``: hold whatever was said before.
10. ``kept``: what another autoscaler keeps is not gone below.
11. ``room``: a limit that all share, as workers share the machine's, holds even then.

Pure: no clock, no I/O, no randomness. The same arguments give the same answer, which is what makes a record replayable.
"""

from __future__ import annotations

from headway.scaling import behavior
from headway.scaling.ask import Answers, Wishes, ask, can_rest, held_need, weigh
from headway.scaling.decision import Clamp, Decision, State
from headway.scaling.policy import Policy
from headway.scaling.samples import Samples
from headway.scaling.watch import catch_up


def decide(policy: Policy, samples: Samples, state: State, now: float) -> tuple[Decision, State]:
    """How many replicas there should be, why, and what the next decision has to know.

    ``now`` is in seconds, on one clock for all decisions; when it is set back, ages stay what they were.
    """
    current = samples.current
    state = catch_up(state, current, now)
    answers = ask(policy, samples, state, now)
    wishes = weigh(policy, answers.proposals, current)
    course = _Course(policy, samples, state, now, answers, wishes)
    desired = course.run()
    decision = Decision(
        now,
        current,
        desired,
        wishes.wish,
        answers.proposals,
        tuple(course.clamps),
        course.clamps[-1].name if course.clamps else wishes.winner,
        answers.fruitless,
        policy.shadow,
    )
    changes = state.changes
    if changes:
        changes = behavior.recent_changes(changes, behavior.longest_period_s(policy), now)
    changed_at, last = state.changed_at, current
    if desired != current and not policy.shadow:
        changes = (*changes, (now, desired - current))
        changed_at, last = now, desired
    after = State(
        course.ups,
        course.downs,
        changes,
        changed_at,
        answers.panic_until if course.panicking else None,
        course.peak,
        course.active_at,
        last,
        now,
        answers.latency,
    )
    return decision, after


class _Course:
    """A wish on its way through the clamps; ``clamps`` has those that changed it."""

    __slots__ = (
        "active_at",
        "answers",
        "clamps",
        "current",
        "downs",
        "now",
        "panicking",
        "peak",
        "policy",
        "resting",
        "samples",
        "state",
        "ups",
        "wish",
        "wishes",
    )

    def __init__(
        self, policy: Policy, samples: Samples, state: State, now: float, answers: Answers, wishes: Wishes
    ) -> None:
        self.policy, self.samples, self.state, self.now = policy, samples, state, now
        self.answers, self.wishes = answers, wishes
        self.current = samples.current
        self.wish = wishes.wish
        self.clamps: list[Clamp] = []
        until = answers.panic_until
        self.panicking = until is not None and now <= until
        self.peak = max(state.panic_peak, wishes.wish, samples.current) if self.panicking else 0
        self.active_at = now if answers.active or state.active_at is None else state.active_at
        self.resting = (
            policy.least == 0
            and not answers.active
            and not wishes.blind
            and not self.panicking
            and now - self.active_at >= policy.cooldown_s
            and can_rest(policy.triggers)
        )
        self.ups, self.downs = self._remember()

    def run(self) -> int:
        """The count after all clamps."""
        self._no_data()
        self._panic()
        if self.policy.least == 0:
            self._activation()
        if self.wish > self.current:
            self._grow()
        elif self.wish < self.current:
            self._shrink()
        if self.policy.least == 0:
            self._wake()
            self._cooldown()
        if self.samples.full and self.wish > self.current:
            self._to("full", self.current, self.samples.full)
        self._bounds()
        return self.wish

    def _to(self, name: str, after: int, why: str) -> None:
        self.clamps.append(Clamp(name, self.wish, after, why))
        self.wish = after

    def _remember(self) -> tuple[behavior.Queue, behavior.Queue]:
        """The stabilization windows with this tick's wishes."""
        policy, state, now = self.policy, self.state, self.now
        ups, downs = state.ups, state.downs
        up_s, down_s = policy.up.stabilization_s, policy.down.stabilization_s
        if state.at is None:
            # Nothing is known of what was wished before: that the present count was, as the HPA begins.
            ups = behavior.push_smallest(ups, self.current, up_s, now)
            downs = behavior.push_largest(downs, self.current, down_s, now)
        if self.answers.fruitless and downs:
            # A step that did not help is withdrawn, so that the window does not keep what it asked for.
            step = state.latency[self.answers.fruitless]
            begun = now if step.step_at is None else step.step_at
            downs = tuple((at, wish) for at, wish in downs if at < begun or wish != step.step_to)
        counted = self.wishes.counted
        if counted is None:
            downs = behavior.expire(downs, down_s, now)
        else:
            downs = behavior.push_largest(downs, counted, down_s, now)
        return behavior.push_smallest(ups, self.wishes.wish, up_s, now), downs

    def _no_data(self) -> None:
        if self.wishes.blind and self.wish < self.current:
            self._to("no_data", self.current, f"no data from {', '.join(self.wishes.blind)}: the count does not fall")

    def _panic(self) -> None:
        if self.panicking and self.wish < self.peak:
            left_s = (self.answers.panic_until or self.now) - self.now
            why = f"a burst: for {left_s:.0f} s more the count does not fall, and the highest wish stays"
            self._to("panic", self.peak, why)

    def _activation(self) -> None:
        if self.resting:
            if self.wish > 0:
                self._to("activation", 0, f"nothing has been active for {self.policy.cooldown_s:g} s: no replica")
        elif self.wish < 1:
            if self.answers.active:
                self._to("activation", 1, "there is work: at least one replica")
            elif self.current > 0 and not can_rest(self.policy.triggers):
                self._to("activation", 1, "these signals cannot tell that there is no work: at least one replica")

    def _grow(self) -> None:
        policy, current = self.policy, self.current
        stable = behavior.stabilize(self.wish, current, self.ups, self.downs)
        if stable != self.wish:
            window_s = policy.up.stabilization_s
            self._to("stabilization", stable, f"not more than {stable} was wished all through the last {window_s:g} s")
        most = behavior.most_allowed(policy.up, current, self.state.changes, self.now)
        if most is not None and self.wish > most:
            self._to("rate", most, f"the scale-up rules allow {most} now")

    def _shrink(self) -> None:
        policy, current = self.policy, self.current
        if not self.resting:
            stable = behavior.stabilize(self.wish, current, self.ups, self.downs)
            if stable != self.wish:
                window_s = policy.down.stabilization_s
                self._to("stabilization", stable, f"{stable} or more were wished within the last {window_s:g} s")
        least = behavior.least_allowed(policy.down, current, self.state.changes, self.now)
        if self.wish < least:
            self._to("rate", least, f"the scale-down rules allow {least} now")

    def _wake(self) -> None:
        if self.current == 0 and self.answers.active:
            need = held_need(self.policy, self.samples.held)
            if self.wish < need:
                self._to("activation", need, "the first replica waits for no rule")

    def _cooldown(self) -> None:
        if self.wish < 1 <= self.current and not self.resting:
            left_s = self.policy.cooldown_s - (self.now - self.active_at)
            self._to("cooldown", 1, f"the last replica stays for {left_s:.0f} s more, unless something becomes active")

    def _bounds(self) -> None:
        least, most = self.policy.least, self.policy.most
        if self.wish < least:
            self._to("minReplicas", least, f"minReplicas is {least}")
        if self.wish > most:
            self._to("maxReplicas", most, f"maxReplicas is {most}")
        kept = self.samples.kept
        if kept is not None and self.wish < kept:
            self._to("kept", kept, f"another engine keeps {kept} by its own triggers")
        room = self.samples.room
        if room is not None and self.wish > room:
            self._to("room", room, f"there is room for {room} now, beside the others")
