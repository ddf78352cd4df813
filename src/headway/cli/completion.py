"""Shell completion of what only the control plane knows: names of models."""

from __future__ import annotations

from contextlib import suppress

from headway.domain.errors import HeadwayError


def model_names(incomplete: str) -> list[str]:
    """Models whose name begins so; none when nobody can be asked, for a prompt is no place for errors."""
    from headway.client import Client

    with suppress(HeadwayError), Client() as client:
        return [model.name for model in client.list() if model.name.startswith(incomplete)]
    return []
