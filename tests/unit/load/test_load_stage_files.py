"""A load in stages, as a file says it."""

from __future__ import annotations

import pytest

from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import Arrivals, Loop
from headway.domain.load_stage_files import load_range, parse_stages
from headway.domain.spec_document import read_as

FILE = """
arrivals: constant
seed: 7
stages:
  - {name: manual, duration: 1m, rate: 50, replicas: 2}
  - {name: automatic, duration: 90s, rate: "50:400", scaling: {maxReplicas: 4, triggers: [{type: cpu, target: 70%}]}}
"""


def test_a_file_of_rates() -> None:
    shape = read_as(parse_stages, FILE, "stages.yaml")
    assert (shape.loop, shape.arrivals, shape.seed, shape.duration_s) == (Loop.OPEN, Arrivals.CONSTANT, 7, 150)
    first, second = shape.stages
    assert (first.name, first.begin, first.end, first.replicas, first.scaling) == ("manual", 50, 50, 2, None)
    assert (second.begin, second.end, second.replicas) == (50, 400, None)
    assert second.scaling is not None
    assert second.scaling["maxReplicas"] == 4


def test_a_file_of_users() -> None:
    shape = parse_stages({"thinkTime": "500ms", "stages": [{"duration": "10s", "users": "1:20"}]}, seed=3)
    assert (shape.loop, shape.think_time_s, shape.seed, shape.stages[0].end) == (Loop.CLOSED, 0.5, 3, 20)


@pytest.mark.parametrize(
    ("data", "where", "said"),
    [
        ({}, "stages", "no stages"),
        ([], None, "expected fields"),
        ({"stages": [{"duration": "1s", "users": 5}], "thinktime": "1s"}, "thinktime", "unknown field"),
        ({"stages": [{"users": 5}]}, "stages[0]", "needs a duration"),
        ({"stages": [{"duration": "1s"}]}, "stages[0]", "users or a rate"),
        ({"stages": [{"duration": "soon", "users": 5}]}, "stages[0].duration", "not a duration"),
        ({"stages": [{"duration": "1s", "users": 1.5}]}, "stages[0].users", "whole"),
        ({"stages": [{"duration": "1s", "users": -1}]}, "stages[0].users", "not a load"),
        ({"stages": [{"duration": "1s", "users": 0}]}, "stages", "no load"),
        ({"stages": [{"duration": "1s", "users": 5}, {"duration": "1s", "rate": 5}]}, "stages[1]", "not mixed"),
        ({"stages": [{"duration": "1s", "rate": 5, "replicas": "3"}]}, "stages[0].replicas", "whole number"),
        (
            {"stages": [{"duration": "1s", "rate": 5, "scaling": {"maxReplicas": 0}}]},
            "stages[0].scaling",
            "maxReplicas|greater|1",
        ),
        ({"stages": [{"duration": "1s", "rate": 5}], "thinkTime": "1s"}, "thinkTime", "belongs to users"),
        ({"stages": [{"duration": "1s", "users": 5}], "arrivals": "poisson"}, "arrivals", "belong to rates"),
        ({"stages": [{"duration": "1s", "rate": 5}], "arrivals": "recorded"}, "arrivals", "no way to arrive"),
    ],
)
def test_what_is_malformed_is_refused_where_it_stands(data: object, where: str | None, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        parse_stages(data)
    assert (refused.value.where or "").startswith(where or "")


@pytest.mark.parametrize("text", ["", "x", "1:", ":2", "1:2:3", "-5", True, None, float("inf")])
def test_what_is_no_range_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput):
        load_range(text, where="--users")


def test_a_refusal_names_the_line_of_the_file() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_as(parse_stages, "stages:\n  - duration: 1s\n    usres: 5\n", "stages.yaml")
    assert refused.value.where == "stages.yaml:3:5: stages[0].usres"
    assert refused.value.hint == "did you mean 'users'?"
