"""What holds for every split and every table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headway.adapters.haproxy.config import Listen, render_config
from headway.adapters.haproxy.maps import render_maps
from headway.domain.routing_table import Arm, Endpoint, ModelRoute, RoutingTable, VersionRoute
from headway.routing import bucket_plan, check_split, with_canary


@st.composite
def splits(draw: st.DrawFn, at_most: int = 6) -> tuple[Arm, ...]:
    numbers = draw(st.lists(st.integers(1, 30), min_size=1, max_size=at_most, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(numbers) - 1, max_size=len(numbers) - 1)))
    edges = [0, *cuts, 100]
    return tuple(Arm(f"v{n}", high - low) for n, low, high in zip(numbers, edges, edges[1:], strict=False))


@given(splits())
def test_a_checked_split_is_the_given_one(split: tuple[Arm, ...]) -> None:
    weights = {arm.version: arm.weight for arm in split}
    assert {a.version: a.weight for a in check_split(weights, weights)} == weights


@given(splits())
def test_a_plan_has_exactly_the_weights(split: tuple[Arm, ...]) -> None:
    plan = bucket_plan(split)
    assert len(plan) == 100
    assert Counter(plan) == Counter({arm.version: arm.weight for arm in split if arm.weight})
    assert plan == bucket_plan(reversed(split))


@given(st.integers(0, 100), st.integers(0, 100))
def test_between_two_versions_no_more_moves_than_must(before: int, after: int) -> None:
    plans = [bucket_plan((Arm("v1", 100 - w), Arm("v2", w))) for w in (before, after)]
    assert sum(a != b for a, b in zip(*plans, strict=True)) == abs(before - after)


@given(splits(), st.integers(1, 99), st.integers(31, 40))
def test_a_canary_leaves_the_proportions(live: tuple[Arm, ...], percent: int, number: int) -> None:
    after = {a.version: a.weight for a in with_canary(live, f"v{number}", percent)}
    assert sum(after.values()) == 100
    assert after[f"v{number}"] == percent
    for arm in live:
        exact = arm.weight * (100 - percent) / 100
        assert abs(after[arm.version] - exact) < 1
        assert after[arm.version] >= 0


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    names = draw(st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z0-9]", fullmatch=True), max_size=3, unique=True))
    models: list[ModelRoute] = []
    for name in names:
        split = draw(splits(3))
        routes: list[Any] = [
            VersionRoute(
                arm.version,
                tuple(Endpoint(f"{name}-{arm.version}-{n}", f"unix:/r/{n}") for n in range(draw(st.integers(0, 2)))),
            )
            for arm in split
        ]
        models.append(ModelRoute(name, split, tuple(routes)))
    return RoutingTable(tuple(models))


@given(tables(), st.integers(0, 99))
def test_every_bucket_leads_to_a_backend_of_its_version_or_to_none(table: RoutingTable, bucket: int) -> None:
    maps = render_maps(table)
    config = render_config(table, Listen("127.0.0.1", 1, Path("/r/a"), Path("/r/b")))
    for model in table.models:
        version = maps["split"].get(f"{model.model}/{bucket}", maps["split"][model.model])
        assert version == bucket_plan(model.arms)[bucket]
        backend = maps["routes"][f"{model.model}/{version}"]
        route = next(v for v in model.versions if v.version == version)
        assert (backend == "none") is not bool(route.endpoints)
        if route.endpoints:
            assert backend.startswith(f"{model.model}.{version}.")
            assert f"\nbackend {backend}\n" in config
