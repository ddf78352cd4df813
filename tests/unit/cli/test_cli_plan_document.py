"""A plan from its measurement to what is told of it: no field is missing on the way, and the reference has them all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from headway.api.schemas_plans import BasisView, PlanView
from headway.cli import plan_page
from headway.cli.plan_nodes import billed
from headway.cli.plan_text import report
from headway.planning.measured import Rate
from headway.planning.nodes import Node, Size
from headway.planning.plan import Question
from tests.unit.control.test_planner import Lab, asked

pytestmark = pytest.mark.anyio
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "capacity-plan.md"
NODE = Node(4.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def made(question: Question) -> PlanView:
    lab = Lab()
    lab.watch.cpu_cores = 0.2
    document = billed(await lab.run(question), question.each, question.node, 1, question.price)
    basis = BasisView(version="v1", digest="", resources={"cpu": 1.0, "memory": None, "workers": 1}, requests="")
    return PlanView(number=1, at=0.0, basis=basis, stale=[], document=document)


def fields(value: Any) -> Iterator[str]:
    """Of all depths; what a policy, a run or a belief consists of is not the plan's to document."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            if name not in {"policy", "runs", "beliefs"}:
                yield from fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner)


@pytest.mark.parametrize(
    "question",
    [
        asked(needed=Rate(30.0), node=NODE, price=2.0, spare_nodes=1),
        asked(cpu_share=0.05, each=Size(1.0, 1 << 29)),
    ],
    ids=["nodes", "ceiling"],
)
async def test_what_was_planned_is_told_and_drawn(question: Question) -> None:
    view = await made(question)
    shown = "\n".join(line.plain for line in report("iris", view))
    assert "bound by" in shown
    assert ("cpu ceiling, 5 %" in shown) == (question.cpu_share == 0.05)
    assert ("price" in shown) == (question.price is not None)
    assert ("node pool" in shown) == (question.node is not None)
    assert plan_page.render("iris", view).count('class="planned') >= 1
    told = set(re.findall(r"`(\w+)`", REFERENCE.read_text()))
    assert set(fields(view.document)) - told == set()
