"""Options of a load test and the loads they belong to: one that would be without effect is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from headway.domain.errors import InvalidInput

if TYPE_CHECKING:
    import typer

_OF_FILE: Final = "replay_file"
_EACH_STAGE: Final = "each stage of the file says it"
_RECORDED: Final = (
    "a replay has what was recorded; of the query log --since and --until choose it, --speed makes it shorter"
)
_BELONGINGS: Final[Mapping[str, tuple[frozenset[str], Mapping[str, str]]]] = {
    "duration": (frozenset({"users", "rate"}), {"stages": _EACH_STAGE, "replay": _RECORDED}),
    "spawn_rate": (frozenset({"users"}), {"stages": _EACH_STAGE, "rate": "--rate 1:100 goes up"}),
    "think_time": (frozenset({"users"}), {"stages": "the file says it: thinkTime: 2s"}),
    "arrivals": (frozenset({"rate"}), {"stages": "the file says it: arrivals: constant", "replay": _RECORDED}),
    "seed": (frozenset({"users", "rate", "stages"}), {"replay": _RECORDED}),
    "rows": (
        frozenset({"users", "rate", "stages", _OF_FILE}),
        {"replay": "each request has as many rows as the recorded one"},
    ),
    "since": (frozenset({"replay"}), {_OF_FILE: "the whole file is sent"}),
    "until": (frozenset({"replay"}), {_OF_FILE: "the whole file is sent"}),
    "speed": (frozenset({"replay", _OF_FILE}), {}),
}
"""With what: the loads, and what to do instead with another."""
_OF_OUR_USERS: Final = ("data", "rows", "think_time", "seed")
"""Without effect where users come from a locustfile."""


def refuse_idle(given: Collection[str], load: str, *, locustfile: bool = False) -> None:
    """Raises ``InvalidInput`` for the first of the ``given`` parameters that says nothing about ``load``.

    ``load``: ``users``, ``rate``, ``stages``, ``replay`` or ``replay_file``.
    """
    for name, (loads, hints) in _BELONGINGS.items():
        if name in given and load not in loads:
            *others, last = (_flag(one) for one in sorted(loads - {_OF_FILE}))
            these = f"{', '.join(others)} or {last}" if others else last
            raise InvalidInput(
                f"{_flag(name)} belongs to {these}, and this load is {_flag(load)}",
                where=_flag(name),
                hint=hints.get(load) or hints.get(load.removesuffix("_file"), "leave it out"),
            )
    for name in _OF_OUR_USERS:
        if locustfile and name in given:
            raise InvalidInput(
                f"{_flag(name)} says nothing to the users of a locustfile",
                where=_flag(name),
                hint="leave it out: what they send, and when, stands in the file",
            )


def typed(context: typer.Context) -> set[str]:
    """Names of the parameters that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
