"""Whether one more request may wait: only while there is room, and only if its answer can be in time.

Room is what :class:`~headway.server.queue_room.QueueRoom` says. Where a latency target is declared, time counts too: a
request that would be answered too late is refused at once, while the caller can still do something else.

What is expected is a mean, and a promise is about the slow ones: calls vary, other processes take the core, the loop
has other things to do. So the expected time must lie below an allowance that is the target at first and is learned from
the answers: one that was late takes a twentieth of it, one in time gives a two-thousandth of the target back (additive
increase, multiplicative decrease: Chiu and Jain, 1989). They balance where one batch in a hundred is late.
"""

from __future__ import annotations

from typing import Final

from headway.server.call_cost import CallCost
from headway.server.queue_room import QueueRoom

_FALL: Final = 0.95
_RISE: Final = 0.0005
_LEAST: Final = 0.5
"""Share of the target below which the allowance does not fall: it is not the queue then that makes answers late."""
_WEIGHT: Final = 0.1


class Admission:
    """For one queue. ``max_queue`` may wait. ``target_s``, if any, counts from arrival to answer."""

    def __init__(self, max_queue: int, target_s: float | None = None) -> None:
        self.cost = CallCost()
        self.queue = QueueRoom(max_queue)
        self._target_s = target_s
        self.allowed_s = target_s
        """What an answer may be expected to take."""
        self._rows = 1.0
        """Mean rows of a request."""

    @property
    def watching(self) -> bool:
        """Whether :meth:`refuses` must be asked although there is room."""
        return self._target_s is not None or self.queue.watching

    def called(self, requests: int, rows: int, duration_s: float) -> None:
        """A call for ``requests`` with ``rows`` together took ``duration_s``, encoding of its answers included."""
        self.cost.observe(requests, duration_s)
        self._rows += _WEIGHT * (rows / requests - self._rows)

    def answered(self, slowest_s: float) -> None:
        """A batch was answered; its slowest request took ``slowest_s`` from arrival to answer."""
        if self._target_s is None or self.allowed_s is None:
            return
        if slowest_s > self._target_s:
            self.allowed_s = max(_LEAST * self._target_s, _FALL * self.allowed_s)
        else:
            self.allowed_s = min(self._target_s, self.allowed_s + _RISE * self._target_s)

    def expected_s(self, waiting: int, most: int, running_for_s: float | None, running: int) -> float:
        """Until the answer to one more request: the call under way, those before it, its own.

        ``most`` requests share a call; the call under way is for ``running`` and began ``running_for_s`` ago.
        """
        full, rest = divmod(waiting + 1, most)
        ahead_s = full * self.cost.expected_s(most) + (self.cost.expected_s(rest) if rest else 0.0)
        if running_for_s is None:
            return ahead_s
        return ahead_s + max(0.0, self.cost.expected_s(running) - running_for_s)

    def _hopeless(self) -> bool:
        """Whether even a call for one request, after another such call, is late: the target cannot be held at present.

        Then who fits into the next call is let in: to refuse him helps nobody, and calls for one request each would be
        a fraction of what the model can do.
        """
        return self.allowed_s is not None and 2 * self.cost.expected_s(1) > self.allowed_s

    def refuses(
        self,
        now_ns: int,
        waiting: int,
        most_rows: int,
        running_for_s: float | None,
        running: int,
        called_ns: int,
    ) -> bool:
        """Whether one more is refused. ``most_rows`` share a call, the last one ended at ``called_ns``.

        Else as for :meth:`expected_s`.

        For the target's sake nobody is refused while none waits: else the model would idle between calls.
        """
        most = max(1, int(most_rows / self._rows))
        refused = waiting >= self.queue.room or (
            waiting > 0
            and self.allowed_s is not None
            and self.expected_s(waiting, most, running_for_s, running) > self.allowed_s
            and not (self._hopeless() and waiting < self.cost.enough(most))
        )
        self.queue.asked(
            now_ns,
            refused=refused,
            waiting=waiting,
            idle_ns=0 if waiting or running else now_ns - called_ns,
            busy=lambda: self.cost.enough(most),
        )
        return refused
