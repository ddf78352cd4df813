"""The operator against an API server faked at the wire: whatever happens, it converges, and then writes nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from headway.control.operator.operator import Operator
from headway.domain.cluster_objects import DEPLOYMENT, LEASE, Change, Kind, Name, Object, uid_of
from tests.services.kubernetes_api import KubernetesApi, refusal
from tests.services.operator_world import (
    IRIS,
    KINDS,
    OURS,
    OWNER,
    ROUTE,
    SERVICE,
    converged,
    deployment,
    difference,
    edit,
    operating,
    put,
    writes,
)
from tests.waiting import eventually

V1 = Name("team-a", "iris-v1")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi([OWNER, LEASE, *KINDS]) as made:
        yield made


async def test_what_is_there_before_and_what_comes_later_is_made(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        put(api, deployment("wine", ["v1"]))
        await converged(api, operator)
        assert len(api.asked("LIST")) == len(KINDS) + 1


async def test_a_change_is_followed_and_what_is_no_longer_wanted_goes(api: KubernetesApi) -> None:
    put(api, deployment(versions=["v1", "v2"], replicas=3))
    async with operating(api) as operator:
        await converged(api, operator)
        put(api, deployment(versions=["v2", "v3"], image="b"))
        await converged(api, operator)
        assert api.cluster.find(DEPLOYMENT, V1) is None
        assert api.cluster.find(DEPLOYMENT, Name("team-a", "iris-v2"))["spec"]["replicas"] == 1  # type: ignore[index]


async def test_what_a_deleted_deployment_owned_is_left_to_the_garbage_collector(api: KubernetesApi) -> None:
    made = put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        before = writes(api)
        await api.cluster.delete(OWNER, IRIS, uid_of(made))
        await converged(api, operator)
        assert [path for path in writes(api)[len(before) :] if "DELETE" in path] == []
        assert api.cluster.every(DEPLOYMENT) == []


async def test_drift_is_mended_and_what_others_own_is_left_alone(api: KubernetesApi) -> None:
    put(api, deployment(replicas=2))

    def spoil(item: dict[str, Any]) -> None:
        item["spec"]["replicas"] = 7
        item["spec"]["paused"] = False
        item["metadata"].setdefault("annotations", {})["team"] = "a"
        item["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "proxy"})

    async with operating(api) as operator:
        await converged(api, operator)
        edit(api, DEPLOYMENT, V1, spoil, who="istio")
        await converged(api, operator)
        found = api.cluster.find(DEPLOYMENT, V1)
        assert found is not None
        assert found["spec"]["replicas"] == 2
        assert found["spec"]["paused"] is False
        assert found["metadata"]["annotations"]["team"] == "a"
        assert [c["name"] for c in found["spec"]["template"]["spec"]["containers"]] == ["model", "sidecar"]
        api.cluster.apply_as(
            "istio", ROUTE, {"metadata": {"name": "iris", "namespace": "team-a"}, "spec": {"rules": []}}
        )
        await converged(api, operator)
        route = api.cluster.find(ROUTE, IRIS)
        assert route is not None
        await api.cluster.delete(ROUTE, IRIS, uid_of(route))
        await converged(api, operator)


async def test_an_object_of_somebody_elses_is_not_taken(api: KubernetesApi) -> None:
    theirs: Object = {
        "metadata": {
            "name": "iris-v1", "namespace": "team-a", "labels": OURS,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Thing", "name": "x", "uid": "other", "controller": True}
            ],
        },
        "spec": {"ports": [{"port": 1}]},
    }  # fmt: skip
    api.cluster.apply_as("them", SERVICE, theirs)
    put(api, deployment(versions=["v1"]))
    async with operating(api):
        await eventually(lambda: (api.cluster.find(OWNER, IRIS) or {}).get("status", {}).get("failures"))
        assert api.cluster.find(OWNER, IRIS)["status"]["failures"] == ["Service iris-v1: belongs to Thing x"]  # type: ignore[index]
        assert api.cluster.find(SERVICE, V1)["spec"] == {"ports": [{"port": 1}]}  # type: ignore[index]
        assert api.cluster.find(DEPLOYMENT, V1) is not None


async def test_the_status_follows_what_controllers_say(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        for version in ("v1", "v2"):
            edit(
                api, DEPLOYMENT, Name("team-a", f"iris-{version}"),
                lambda item: item.update(status={"readyReplicas": 2}), who="kube-controller-manager",
            )  # fmt: skip
        await converged(api, operator, ready=4)


# -- the server refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [409, 429, 500, 503])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "done, but answered so"])
async def test_every_third_write_fails(api: KubernetesApi, code: int, lost: bool) -> None:
    count = itertools.count(1)

    def fault(request: Request) -> Response | None:
        writing = request.method in ("PATCH", "DELETE") and "leases" not in request.url.path
        return refusal(code) if writing and next(count) % 3 == 0 else None

    if lost:
        api.faults.after = fault
    else:
        api.faults.request = fault
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        put(api, deployment(versions=["v2", "v3"]))
        await converged(api, operator)


async def test_lists_and_watches_fail_for_a_while(api: KubernetesApi) -> None:
    failing = {"left": 12}

    def fault(request: Request) -> Response | None:
        if request.method == "GET" and "leases" not in request.url.path and failing["left"] > 0:
            failing["left"] -= 1
            return refusal((429, 500, 503)[failing["left"] % 3])
        return None

    api.faults.request = fault
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)


async def test_an_object_that_the_server_finds_wrong_is_told_and_keeps_nothing_else_back(api: KubernetesApi) -> None:
    api.faults.request = lambda request: (
        refusal(422, "spec.ports: too few") if request.method == "PATCH" and "services" in request.url.path else None
    )
    put(api, deployment(versions=["v1"]))
    async with operating(api):
        await eventually(lambda: (api.cluster.find(OWNER, IRIS) or {}).get("status", {}).get("failures"))
        (failure,) = api.cluster.find(OWNER, IRIS)["status"]["failures"]  # type: ignore[index]
        assert failure.startswith("Service iris-v1: the API server answers 422: spec.ports: too few")
        assert api.cluster.find(ROUTE, IRIS) is not None


async def test_a_kind_that_is_not_installed_is_told_and_keeps_nothing_else_back(api: KubernetesApi) -> None:
    api._kinds.pop((ROUTE.api_version, ROUTE.plural))
    put(api, deployment(versions=["v1"]))
    async with operating(api):
        await eventually(lambda: (api.cluster.find(OWNER, IRIS) or {}).get("status", {}).get("failures"))
        (failure,) = api.cluster.find(OWNER, IRIS)["status"]["failures"]  # type: ignore[index]
        assert failure == f"HTTPRoute iris: the cluster does not know {ROUTE}"
        assert api.cluster.find(DEPLOYMENT, V1) is not None


# -- the watch lies --------------------------------------------------------------------------------------------------


async def test_watches_that_are_cut_go_on_where_they_were(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        lists = len(api.asked("LIST"))
        for number in range(3):
            api.cut_watches()
            put(api, deployment(replicas=number + 2))
            await converged(api, operator)
        assert len(api.asked("LIST")) == lists


async def test_a_version_that_the_server_has_forgotten_is_listed_again(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        api.cluster.forget()
        api.cut_watches()
        put(api, deployment(versions=["v9"]))
        api.cluster.forget()
        await converged(api, operator)


async def test_events_come_twice_late_and_in_any_order(api: KubernetesApi) -> None:
    held: list[Change] = []

    def stream(kind: Kind, change: Change) -> list[Change]:
        held.append(change)
        if len(held) < 3:
            return [change]  # now, and again later
        old, held[:] = held[::-1], []
        return [change, *(item for item in old if item.object["kind"] == kind.kind)]

    api.faults.stream = stream
    put(api, deployment())
    async with operating(api) as operator:
        await converged(api, operator)
        for number in range(6):
            put(api, deployment(versions=[f"v{number}", f"v{number + 1}"], replicas=number + 1))
            await converged(api, operator)


async def test_events_that_never_come_are_found_by_listing_again(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api, resync_s=0.2) as operator:
        await converged(api, operator)
        api.faults.stream = lambda *_: []
        put(api, deployment(versions=["v7"], replicas=3))
        edit(api, SERVICE, V1, lambda item: item["spec"].update(ports=[{"port": 81}]))
        await converged(api, operator)


# -- operators die, and there may be two -------------------------------------------------------------------------------


class Crash:
    """The process ends before, or right after, its write number ``place``: nothing is written from then on."""

    def __init__(self, place: int) -> None:
        self.left = place
        self.reached = False

    def __call__(self, request: Request) -> Response | None:
        if request.method in ("PATCH", "DELETE") and "leases" not in request.url.path:
            self.reached = self.reached or self.left == 0
            self.left -= 1
        return refusal(500) if self.reached else None


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_crash_before_or_after_any_write_is_mended_by_the_next_operator(api: KubernetesApi, done: bool) -> None:
    """Every place in the making and in the changing of a deployment, one after the other."""
    places = 0
    for place in range(40):
        crash = Crash(place)
        async with operating(api) as operator:
            first, then = deployment(f"m{place}", ["v1", "v2"]), deployment(f"m{place}", ["v2", "v3"], image="b")
            api.faults.request, api.faults.after = (api.faults.request, crash) if done else (crash, api.faults.after)
            put(api, first)
            await until_written_or(crash, api, operator)
            put(api, then)
            await until_written_or(crash, api, operator)
        api.faults.request = api.faults.after = lambda _: None
        async with operating(api) as operator:
            await converged(api, operator)
        if not crash.reached:
            break
        places += 1
    assert 12 <= places < 40  # 5 objects and the status made; 5 changed or made, 2 deleted


async def until_written_or(crash: Crash, api: KubernetesApi, operator: Operator) -> None:
    await eventually(lambda: crash.reached or (not difference(api) and operator.idle))


async def test_of_two_operators_one_writes_and_the_other_takes_over(api: KubernetesApi) -> None:
    put(api, deployment())
    async with operating(api, "one") as one:
        await converged(api, one)
        async with operating(api, "two") as two:
            put(api, deployment(versions=["v2", "v3"]))
            await converged(api, one, two)
            lease = api.cluster.find(LEASE, Name("headway", "operator"))
            assert lease is not None
            assert lease["spec"]["holderIdentity"] == "one"
            await one.stop()
        # two never led
    async with operating(api, "three") as three:  # one has stepped down
        put(api, deployment(versions=["v4"]))
        await converged(api, three)
