"""Which options of ``headway plan`` go together: what would do nothing is refused by name."""

from __future__ import annotations

from typing import Final

import typer

from headway.domain.errors import InvalidInput

OF_A_KEPT_PLAN: Final = frozenset(
    (
        *("name", "show", "data", "rows", "write_policy", "plot", "output"),
        *("node_cores", "node_memory", "node_pods", "node_reserved", "spare_nodes", "price"),
    )
)
"""What ``--show`` can do something with; all others are about measuring."""
LEAST_RUN_S: Final = 1.0
MOST_FAILED: Final = 0.001
"""Without a promise about errors."""
CPU_CEILING: Final = 0.85
"""Without ``--cpu-ceiling``."""


def check(context: typer.Context) -> None:
    """Raises ``InvalidInput`` for an option that another one makes pointless."""
    given = [name for name in context.params if _given(context, name)]
    if "users" in given and "rate" in given:
        raise InvalidInput("--users and --rate exclude each other", where="--rate")
    if "rate" in given and "think_time" in given:
        told = "requests at a --rate come whatever became of those before: nobody thinks"
        raise InvalidInput(told, where="--think-time", hint="with --users, or without a load")
    for name in given:
        if "show" in given and name not in OF_A_KEPT_PLAN:
            raise InvalidInput("--show shows the last plan and measures nothing", where=f"--{name.replace('_', '-')}")


def run_length(text: str) -> float:
    """``--duration``, in seconds."""
    from headway.cli.load_source import length

    run_s = length(text, "--duration")
    if run_s < LEAST_RUN_S:
        raise InvalidInput(
            f"a run of {run_s:g} s tells nothing", where="--duration", hint=f"{LEAST_RUN_S:g} s at least"
        )
    return run_s


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
