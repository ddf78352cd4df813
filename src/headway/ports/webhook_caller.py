"""WebhookCaller: one HTTP call to a place that somebody else has named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What came of a call."""

    status: int | None
    """None: there was no answer."""
    problem: str = ""
    """Why there was none, in a few words."""

    @property
    def arrived(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookCaller(Protocol):
    """Calls, and tells what came of it; nothing that the other side does raises or takes more than 10 s."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool = False
    ) -> WebhookAnswer:
        """POST ``body``. No redirect is followed; what is answered beyond the status is ignored.

        Unless ``allow_private``, every address of the host has to be public
        (:func:`headway.domain.webhooks.is_public`); the one that was looked at is the one that is called.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held open."""
        ...
