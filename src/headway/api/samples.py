"""The sample of a version, read from its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from headway.domain.deployments import Deployment
from headway.domain.errors import PayloadTooLarge

DEFAULT: Final = "sample.json"
"""Where the spec names no other; as the model server has it."""
MOST_BYTES: Final = 16 * 1024 * 1024


def main_version(deployment: Deployment) -> str | None:
    """The version with most of the traffic, else the newest; None without any."""
    arms = deployment.live or deployment.target
    if arms:
        return max(arms, key=lambda arm: arm.weight).version
    return deployment.versions[-1].name if deployment.versions else None


def sample_in(bundle: Path, spec: Mapping[str, Any]) -> bytes | None:
    """None when there is none. Raises ``PayloadTooLarge`` above 16 MiB."""
    named = (spec.get("model") or {}).get("sample") or DEFAULT
    try:
        with (bundle / named).open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError:
        return None
    if len(body) > MOST_BYTES:
        raise PayloadTooLarge(f"{named} is larger than {MOST_BYTES >> 20} MiB", where=named)
    return body
