"""Carries a plan's measurements out: progress while it runs; Ctrl-C ends it and scales the model as before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvloop
from rich.text import Text

from headway.cli.interrupts import told_to_end
from headway.cli.output import err, is_json
from headway.cli.plan_text import point_line

if TYPE_CHECKING:
    from headway.client import Client
    from headway.control.planner import Planner, Step
    from headway.planning.plan import Question
    from headway.ports.load_generator import LoadRequest


def carry_out(
    client: Client,
    own: Client,
    name: str,
    question: Question,
    requests: Sequence[LoadRequest],
    pace: tuple[int, float, float],
) -> dict[str, Any] | None:
    """The plan's document; None when it was interrupted. ``own`` is for the watch alone."""
    from headway.adapters.local import SystemClock
    from headway.bootstrap_load import load_tester
    from headway.client.model_watch import RestModelWatch
    from headway.control.planner import Pace, Planner

    watch = RestModelWatch(own, name)
    planner = Planner(load_tester(watch), watch, SystemClock(), client.load_target(name), requests, Pace(*pace), _tell)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(planner, question))


async def _run(planner: Planner, question: Question) -> dict[str, Any] | None:
    from headway.control.planner import Stopped

    with told_to_end(planner.stop), suppress(Stopped):
        return await planner.run(question)
    return None


def _tell(step: Step) -> None:
    if is_json():
        return
    if step.point is None:
        err.print(Text(f"  {step.text}", "dim"))
    else:
        err.print(Text(point_line(step.point, step.kept)))
