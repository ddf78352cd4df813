"""Whatever arrives and whatever the policy: every request has a fate, counts stay in their bounds, records are real."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.control.scaling_plan import Size
from headway.control.simulation import Candidate, Traffic, simulate
from headway.domain.scaling_document import parse_scaling
from headway.planning.fleet import EXPIRED, OK, REFUSED, Serving
from headway.scaling.record import replay

TRIGGERS: list[dict[str, Any]] = [
    {"type": "concurrency", "target": 1, "window": "8s"},
    {"type": "rps", "target": 5, "window": "8s"},
    {"type": "cpu", "target": "60%"},
    {"type": "latency", "quantile": "p95", "threshold": "300ms", "window": "10s", "every": "5s"},
]
triggers = st.lists(st.sampled_from(TRIGGERS), min_size=1, max_size=3, unique_by=lambda one: str(one["type"]))


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(triggers)
    tells_work = any(one["type"] != "cpu" for one in chosen)
    least = draw(st.integers(0 if tells_work else 1, 2))
    scaling = {
        "minReplicas": least,
        "maxReplicas": draw(st.integers(least + 1, 6)),
        "triggers": chosen,
        "cooldownPeriod": "10s",
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": draw(st.sampled_from([0, 15]))}},
    }
    return parse_scaling(scaling).model_dump(mode="json", by_alias=True)


bursts = st.lists(st.tuples(st.floats(0, 60), st.integers(1, 40)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    policies(), bursts, st.floats(0.001, 0.6), st.integers(1, 2), st.integers(1, 30), st.sampled_from([0.4, 5.0]),
    st.floats(0, 8),
)  # fmt: skip
def test_every_request_has_a_fate_and_counts_stay_in_their_bounds(
    scaling: dict[str, Any],
    load: list[tuple[float, int]],
    work_s: float,
    servers: int,
    most_waiting: int,
    timeout_s: float,
    start_s: float,
) -> None:
    rng = np.random.default_rng(1)
    arrivals = np.sort(np.concatenate([at + rng.uniform(0, 3, count) for at, count in load]))
    serving = Serving((work_s,), (0.002,), servers, most_waiting, timeout_s, start_s)
    traffic = Traffic(arrivals, 0.0, 70.0, serving, Size(1.0, None))
    run = simulate("iris", Candidate("now", scaling), traffic)
    status, total = np.array(run.outcomes.status), np.array(run.outcomes.total_s)
    assert set(status) <= {OK, REFUSED, EXPIRED}
    assert (np.array(run.outcomes.waited_s) >= -1e-9).all()
    assert (total[status == OK] >= work_s - 1e-9).all()
    assert (np.array(run.outcomes.waited_s)[status == OK] <= timeout_s + 1e-9).all()
    assert (total[status == REFUSED] == 0).all()
    least, most = scaling["minReplicas"], scaling["maxReplicas"]
    assert all(least <= count <= most for count in run.course.wished)
    assert all(ready <= wished for ready, wished in zip(run.course.ready, run.course.wished, strict=True))
    work = work_s * int((status == OK).sum())
    assert run.replica_s * servers >= work - 1e-6, "nobody works more than there is time"
    for one in run.decisions[:20]:
        assert replay(one.document()) == one.decision
