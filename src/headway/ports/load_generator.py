"""LoadGenerator: sends a load and writes down what becomes of every request."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.domain.load_samples import Samples
from headway.domain.load_shapes import LoadShape


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """A model behind a gateway."""

    model: str
    url: str
    """The model's own: ``http://127.0.0.1:8420/models/iris``; paths of requests come after it."""
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A POST to ``path`` below the model's URL."""

    body: bytes
    path: str = "predict"
    content_type: str = "application/json"


@dataclass(slots=True, kw_only=True)
class Load:
    """What to send, and where to write down what came of it."""

    target: LoadTarget
    shape: LoadShape
    requests: Sequence[LoadRequest]
    """Sent in turn: number ``k`` of the load is ``requests[k % len(requests)]``."""
    began: Callable[[float], None]
    """Called once, with the instant on the monotonic clock from which all others count."""
    samples: Samples = field(default_factory=Samples)
    lags_s: array[float] = field(default_factory=lambda: array("d"))
    """How late the generator woke where it can only be told apart from requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorState:
    """How it stands."""

    users: int | None = None
    """Of a closed loop."""
    sent: int = 0
    waited: int = 0
    """Requests that had to wait for a connection, since as many were open as may be."""
    in_flight: int | None = 0
    """None: this generator does not know."""
    oldest_s: float = 0.0
    """How long the request in flight has waited that has waited longest."""
    cpu_share: float | None = None
    """Of one core, of the busiest process, since the begin."""
    notes: tuple[str, ...] = ()
    """What whoever reads the figures has to know of the generator."""


class LoadGenerator(Protocol):
    """One load at a time."""

    @property
    def name(self) -> str:
        """``headway`` or ``locust``."""
        ...

    async def run(self, load: Load) -> None:
        """Send it; returns once the last answer is in, or is given up, or after :meth:`stop`.

        Raises ``GatewayFailed`` when nothing can be reached at the target's address at the begin, and an error of the
        tree when the generator itself cannot go on. When it returns or raises, nothing of it is left: no process, no
        connection.
        """
        ...

    def state(self) -> GeneratorState:
        """While it runs, and afterwards of the last load."""
        ...

    def stop(self) -> None:
        """End the load at once; requests in flight are let go and not written down. Idempotent."""
        ...
