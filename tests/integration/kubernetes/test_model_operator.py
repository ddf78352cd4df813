"""ModelDeployments, looked after by the operator on an API server faked at the wire."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from headway.adapters.memory.cluster import MemoryCluster
from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED, SCALING_POLICY
from headway.cluster.names import CLAIM_ANNOTATION, IMAGE_ANNOTATION, VERSION_LABEL
from headway.cluster.reconcile import reconcile
from headway.domain.cluster_objects import DEPLOYMENT, LEASE, POD, Change, Kind, Name, uid_of
from headway.domain.errors import StaleWrite
from tests.services.kubernetes_api import KubernetesApi, refusal
from tests.services.model_world import (
    IRIS,
    KINDS,
    ROUTE,
    Looking,
    bring_up,
    condition,
    model,
    operating,
    put,
    replicas,
    settled,
    weights,
    writes,
)
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
V1, V2 = Name("models", "iris-v1"), Name("models", "iris-v2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(KINDS) as made:
        yield made


def images(api: KubernetesApi) -> dict[str, str]:
    """What each version is: for ever the same."""
    return {
        item["metadata"]["labels"][VERSION_LABEL]: item["metadata"]["annotations"][IMAGE_ANNOTATION]
        for item in api.cluster.every(DEPLOYMENT)
        if item["metadata"]["name"].startswith("iris-")
    }


async def test_a_model_is_routed_once_its_first_version_is_ready(api: KubernetesApi) -> None:
    put(api, model(scaling={"minReplicas": 2}))
    async with operating(api) as looking:
        await settled(api, looking, but=("iris-v1",))
        assert replicas(api) == {"iris-v1": 2}
        assert weights(api) == {}
        assert condition(api, "Ready")[:2] == ("False", "NotReady")
        await settled(api, looking)
        assert weights(api) == {"iris-v1": 100}
        assert condition(api, "Ready") == ("True", "Serving", "traffic: v1 100 %")
        status = api.cluster.find(MODEL_DEPLOYMENT, IRIS)["status"]  # type: ignore[index]
        assert (status["replicas"], status["readyReplicas"], status["traffic"]) == (2, 2, "v1 100 %")


async def test_the_split_moves_when_the_new_version_is_ready_and_a_rollback_makes_no_new_one(
    api: KubernetesApi,
) -> None:
    put(api, model("iris:1"))
    async with operating(api) as looking:
        await settled(api, looking)
        put(api, model("iris:2"))
        await settled(api, looking, but=("iris-v2",))
        assert weights(api) == {"iris-v1": 100}
        assert replicas(api) == {"iris-v1": 1, "iris-v2": 1}
        assert condition(api, "Progressing")[:2] == ("True", "Waiting")
        await settled(api, looking)
        assert weights(api) == {"iris-v2": 100}
        assert replicas(api) == {"iris-v1": 0, "iris-v2": 1}
        put(api, model("iris:1"))
        await settled(api, looking)
        assert weights(api) == {"iris-v1": 100}
        assert images(api) == {"v1": "iris:1", "v2": "iris:2"}


async def test_without_a_route_too_the_old_version_runs_until_the_new_one_is_ready(api: KubernetesApi) -> None:
    put(api, model("iris:1", kubernetes={"route": None}))
    async with operating(api) as looking:
        await settled(api, looking)
        put(api, model("iris:2", kubernetes={"route": None}))
        await settled(api, looking, but=("iris-v2",))
        assert replicas(api) == {"iris-v1": 1, "iris-v2": 1}
        assert condition(api, "Ready") == (
            "True",
            "Serving",
            "v2 100 % is asked for; it comes when every replica of v2 is ready",
        )
        await settled(api, looking)
        assert replicas(api) == {"iris-v1": 0, "iris-v2": 1}
        assert condition(api, "Ready") == ("True", "Serving", "traffic: v2 100 %")


async def test_a_canary_has_its_share_and_both_run(api: KubernetesApi) -> None:
    put(api, model("iris:1"))
    async with operating(api) as looking:
        await settled(api, looking)
        put(api, model("iris:2", traffic=[{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]))
        await settled(api, looking)
        assert weights(api) == {"iris-v1": 90, "iris-v2": 10}
        assert replicas(api) == {"iris-v1": 1, "iris-v2": 1}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"sticky": {"header": "x-user"}}, "Unsupported"),
        ({"modle": {}}, "InvalidSpec"),
        ({"traffic": [{"version": "v7", "weight": 100}]}, "InvalidTraffic"),
        (
            {"scaling": {"minReplicas": 1, "maxReplicas": 3, "triggers": [{"type": "python"}]}},
            "Unsupported",
        ),
    ],
)
async def test_a_document_that_is_wrong_takes_nothing_down(
    api: KubernetesApi, spec: dict[str, Any], reason: str
) -> None:
    put(api, model())
    async with operating(api) as looking:
        await settled(api, looking)
        before = {kind: api.cluster.every(kind) for kind in OWNED}
        put(api, model(**spec))
        await settled(api, looking)
        assert condition(api, "Accepted")[:2] == ("False", reason)
        assert condition(api, "Ready")[0] == "True"
        assert {kind: api.cluster.every(kind) for kind in OWNED} == before
        put(api, model())
        await settled(api, looking)
        assert condition(api, "Accepted")[0] == "True"


async def test_drift_is_mended_and_the_replicas_of_an_autoscaler_are_its_own(api: KubernetesApi) -> None:
    triggers = [{"type": "cpu", "target": "80%"}]
    scaling = {"minReplicas": 2, "maxReplicas": 9, "triggers": triggers}
    put(api, model(resources={"cpu": "500m"}, scaling=scaling, kubernetes={"engine": "hpa"}))
    async with operating(api) as looking:
        await settled(api, looking)
        found = api.cluster.find(DEPLOYMENT, V1)
        assert found is not None
        found["spec"]["replicas"] = 7
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "miner:1"
        api.cluster.update_as("somebody", DEPLOYMENT, found)
        await settled(api, looking)
        assert replicas(api) == {"iris-v1": 7}
        mended = api.cluster.find(DEPLOYMENT, V1)
        assert mended is not None
        assert mended["spec"]["template"]["spec"]["containers"][0]["image"] == "iris:1"


async def test_what_a_deleted_model_owned_goes_with_it(api: KubernetesApi) -> None:
    made = put(api, model())
    async with operating(api) as looking:
        await settled(api, looking)
        await api.cluster.delete(MODEL_DEPLOYMENT, IRIS, uid_of(made))
        await settled(api, looking)
        assert [item for kind in OWNED for item in api.cluster.every(kind)] == []


async def test_a_policy_scales_a_deployment_of_somebody_elses(api: KubernetesApi) -> None:
    redis = {"type": "redis", "address": "redis:6379", "listName": "rq:queue:default"}
    scaling = {"minReplicas": 5, "maxReplicas": 30, "triggers": [redis]}
    spec = {"targetRef": {"name": "rq-workers"}, "engine": "keda", "scaling": scaling}
    workers = Name("models", "workers")
    put(api, {"metadata": {"name": "workers", "namespace": "models"}, "spec": spec}, SCALING_POLICY)
    scaled = next(kind for kind in OWNED if kind.kind == "ScaledObject")
    async with operating(api) as looking:
        await eventually(lambda: api.cluster.find(scaled, workers), 60)
        await settled(api, looking)
        found = api.cluster.find(scaled, workers)
        assert found is not None
        assert (found["spec"]["minReplicaCount"], found["spec"]["maxReplicaCount"]) == (5, 30)
        assert condition(api, "Ready", workers, SCALING_POLICY)[0] == "True"
        put(api, {"metadata": {"name": "workers", "namespace": "models"}, "spec": {**spec, "engine": "headway"}},
            SCALING_POLICY)  # fmt: skip
        missing = ("False", "TargetMissing", "there is no Deployment rq-workers in models")
        await eventually(lambda: condition(api, "ScalingActive", workers, SCALING_POLICY) == missing, 60)
        assert api.cluster.find(scaled, workers) is None


async def test_a_cluster_without_a_gateways_definitions_is_told_so(api: KubernetesApi) -> None:
    api._kinds.pop((ROUTE.api_version, ROUTE.plural))
    put(api, model())
    async with operating(api):

        def told() -> bool:
            bring_up(api)
            return condition(api, "Applied")[0] == "False"

        await eventually(told, 60)
        assert "HTTPRoute iris: the cluster does not know" in condition(api, "Applied")[2]


# -- the server refuses, operators die, and there may be two -----------------------------------------------------------


async def rolled_out(api: KubernetesApi, *looking: Looking) -> None:
    """Three documents, one after the other; at the end the third one holds, and every version is what it was."""
    for number in (1, 2, 3):
        put(api, model(f"iris:{number}"))
        await settled(api, *looking)
    assert weights(api) == {"iris-v3": 100}
    mine = {name: count for name, count in replicas(api).items() if name.startswith("iris-")}
    assert mine == {"iris-v1": 0, "iris-v2": 0, "iris-v3": 1}
    assert images(api) == {"v1": "iris:1", "v2": "iris:2", "v3": "iris:3"}


@pytest.mark.parametrize("code", [409, 429, 500])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "done, but answered so"])
async def test_every_fourth_write_fails(api: KubernetesApi, code: int, lost: bool) -> None:
    count = itertools.count(1)

    def fault(request: Request) -> Response | None:
        writing = request.method != "GET" and "leases" not in request.url.path
        return refusal(code) if writing and next(count) % 4 == 0 else None

    setattr(api.faults, "after" if lost else "request", fault)
    async with operating(api) as looking:
        await rolled_out(api, looking)


async def test_watches_that_repeat_and_reorder_and_are_cut_change_nothing(api: KubernetesApi) -> None:
    held: list[Change] = []

    def stream(kind: Kind, change: Change) -> list[Change]:
        held.append(change)
        if len(held) < 3:
            return [change]  # now, and again later
        old, held[:] = held[::-1], []
        api.cut_watches()
        return [change, *(item for item in old if item.object["kind"] == kind.kind)]

    api.faults.stream = stream
    async with operating(api) as looking:
        await rolled_out(api, looking)


async def test_a_server_that_has_forgotten_and_events_that_never_come_change_nothing(api: KubernetesApi) -> None:
    put(api, model("iris:0", name="other"))
    async with operating(api, resync_s=0.5) as looking:
        await settled(api, looking)
        api.faults.stream = lambda *_: []
        api.cluster.forget()
        await rolled_out(api, looking)


class Crash:
    """The process ends before, or right after, its write number ``place``: nothing is written from then on."""

    def __init__(self, place: int) -> None:
        self.left = place
        self.reached = False

    def __call__(self, request: Request) -> Response | None:
        if request.method != "GET" and "leases" not in request.url.path:
            self.reached = self.reached or self.left == 0
            self.left -= 1
        return refusal(500) if self.reached else None


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_crash_before_or_after_any_write_of_a_rollout_is_mended_by_the_next_operator(
    api: KubernetesApi, done: bool
) -> None:
    """Every place in the making of a first version and in the change to a second, one after the other."""
    places = 0
    for place in range(60):
        name, crash = f"m{place}", Crash(place)
        async with operating(api) as looking:
            setattr(api.faults, "after" if done else "request", crash)
            put(api, model("iris:1", name))
            await eventually(partial(_came, api, looking, name, crash), 60)
            if not crash.reached:
                put(api, model("iris:2", name))
                await eventually(partial(_came, api, looking, name, crash), 60)
        api.faults.request = api.faults.after = lambda _: None
        async with operating(api) as looking:
            await settled(api, looking)
            put(api, model("iris:2", name))
            await settled(api, looking)
        assert weights(api, name) == {f"{name}-v2": 100}
        mine = {key: count for key, count in replicas(api).items() if key.startswith(f"{name}-")}
        assert mine == {f"{name}-v1": 0, f"{name}-v2": 1}
        if not crash.reached:
            break
        places += 1
        # The world stays small: every operator looks at all that is in it.
        await api.cluster.delete(MODEL_DEPLOYMENT, Name("models", name), "")
    assert 14 <= places < 60


def _came(api: KubernetesApi, looking: Looking, name: str, crash: Crash) -> bool:
    bring_up(api)
    item = api.cluster.find(MODEL_DEPLOYMENT, Name("models", name))
    assert item is not None
    ready = {one["type"]: one["status"] for one in item.get("status", {}).get("conditions", [])}
    return crash.reached or (looking.idle and ready.get("Progressing") == "False" and _newest_serves(api, item))


def _newest_serves(api: KubernetesApi, item: dict[str, Any]) -> bool:
    image, served = item["spec"]["kubernetes"]["image"], weights(api, item["metadata"]["name"])
    return any(
        one["metadata"]["name"] in served and one["metadata"]["annotations"][IMAGE_ANNOTATION] == image
        for one in api.cluster.every(DEPLOYMENT)
    )


async def test_two_operators_at_once_come_to_the_same(api: KubernetesApi) -> None:
    async with operating(api, "one") as one, operating(api, "two") as two:
        await rolled_out(api, one, two)
        lease = api.cluster.find(LEASE, Name("headway-system", "headway"))
        assert lease is not None
        await one.leader.stop()
        await two.leader.stop()


async def test_two_operators_that_both_believe_to_lead_never_give_a_name_twice() -> None:
    """The claim of the second is based on a state that the first has changed."""
    cluster = MemoryCluster()
    cluster.apply_as("kubectl", MODEL_DEPLOYMENT, model("iris:1"))
    older = cluster.find(MODEL_DEPLOYMENT, IRIS)
    cluster.apply_as("kubectl", MODEL_DEPLOYMENT, model("iris:2"))
    newer = cluster.find(MODEL_DEPLOYMENT, IRIS)
    assert older is not None
    assert newer is not None
    first, second = reconcile(newer, [], [], [], 0.0).claim, reconcile(older, [], [], [], 0.0).claim
    assert first is not None
    assert second is not None
    assert first["metadata"]["annotations"][CLAIM_ANNOTATION].startswith("v1=")
    await cluster.replace(MODEL_DEPLOYMENT, first)
    with pytest.raises(StaleWrite):
        await cluster.replace(MODEL_DEPLOYMENT, second)
    look = reconcile(cluster.find(MODEL_DEPLOYMENT, IRIS) or {}, [], [], [], 0.0)
    assert look.claim is None
    assert look.objects


async def test_in_a_steady_state_nothing_is_listed_and_nothing_is_written(api: KubernetesApi) -> None:
    for number in range(20):
        put(api, model(name=f"m{number}"))
    async with operating(api) as looking:
        await settled(api, looking)
        lists, written = len(api.asked("LIST")), Counter(writes(api))
        api.cut_watches()
        put(api, model("iris:2", name="m0"))
        await settled(api, looking)
        assert len(api.asked("LIST")) == lists
        since = Counter(writes(api)) - written
        assert since
        assert all("/m0" in path for path in since)


async def test_why_a_version_does_not_come_up_stands_in_the_status_until_it_does(api: KubernetesApi) -> None:
    put(api, model())
    async with operating(api) as looking:
        await settled(api, looking, but=("iris-v1",))
        assert condition(api, "Healthy") == ("True", "Healthy", "")
        deployment = api.cluster.find(DEPLOYMENT, V1) or {}
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        waits = {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}
        statuses = [{"name": "model", "image": "iris:1", "ready": False, "restartCount": 0, "state": waits}]
        pod = {"metadata": {"name": "iris-v1-x", "namespace": "models", "labels": labels}}
        api.cluster.update_as("kubelet", POD, {**pod, "status": {"containerStatuses": statuses}})
        await eventually(lambda: condition(api, "Healthy")[0] == "False", what="the cause is told")
        _, reason, message = condition(api, "Healthy")
        assert reason == "ImagePullFailed"
        assert message.startswith("v1, 1 pod: iris:1: no such tag (see the image's name")
        await settled(api, looking, but=("iris-v1",))
        found = api.cluster.find(POD, Name("models", "iris-v1-x")) or {}
        await api.cluster.delete(POD, Name("models", "iris-v1-x"), uid_of(found))
        await settled(api, looking)
        assert condition(api, "Healthy") == ("True", "Healthy", "")
