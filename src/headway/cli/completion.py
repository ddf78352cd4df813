"""Shell completion of what only the control plane knows: names of models."""

from __future__ import annotations

from contextlib import suppress

import typer

from headway.cli.place import Place
from headway.domain.errors import HeadwayError


def model_names(context: typer.Context, incomplete: str) -> list[str]:
    """Models whose name begins so; none when nobody can be asked, for a prompt is no place for errors."""
    asked = context.find_root().params
    if asked.get("context_name"):
        from headway.cli import cluster

        with suppress(HeadwayError):
            return cluster.names(Place(asked["context_name"], asked.get("namespace")), incomplete)
        return []
    from headway.client import Client

    with suppress(HeadwayError), Client() as client:
        return [model.name for model in client.list() if model.name.startswith(incomplete)]
    return []
