"""What Locust's processes are told; see ``locust_plugin``, which is loaded there and cannot be imported here."""

from __future__ import annotations

from typing import Final

import msgspec

from headway.domain.load_shapes import LoadShape
from headway.ports.load_generator import LoadRequest

PART: Final = "HEADWAY_LOAD_PART"
"""Environment variable that names the file."""


class LocustPart(msgspec.Struct, kw_only=True):
    """The load. ``own_users``: there is no locustfile, so the plugin brings users."""

    url: str
    token: str | None
    shape: LoadShape
    requests: list[LoadRequest]
    timeout_s: float
    own_users: bool
