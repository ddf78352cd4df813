"""A cluster: the same command line with a context; replicas are pods, asked through a gateway or the API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from headway.cluster.names import MODEL_LABEL
from headway.domain.cluster_objects import POD
from tests.e2e.blackbox.place import Call, caller_of, http_client, live
from tests.installation import Outcome
from tests.services.cluster import RealCluster


class ClusterPlace:
    """A :class:`tests.e2e.blackbox.place.Place`."""

    name = "cluster"

    def __init__(self, cluster: RealCluster, image: str, config: pytest.Config, gateway: httpx2.Client | None) -> None:
        self._cluster = cluster
        self._image = image
        self._config = config
        self._gateway = gateway
        self.scratch = cluster.scratch
        self.patience_s: float = config.getoption("--cluster-patience")
        self.answers = not config.getoption("--cluster-no-answers")

    def needs(self, what: str) -> None:
        if not self.answers:
            pytest.skip("its pods run nothing (--cluster-no-answers)")
        if what == "gateway" and self._gateway is None:
            pytest.skip("no gateway is known (--cluster-url)")
        option = self._config.getoption
        if what == "signals" and option("--cluster-operator") == "process" and not option("--cluster-pods-reachable"):
            pytest.skip("the operator, a process here, cannot ask pods (--cluster-pods-reachable)")
        if what == "control" and option("--cluster-operator") != "process":
            pytest.skip("the operator is not of this test run (--cluster-operator)")

    def run(self, *args: str) -> Outcome:
        return self._cluster.run(*args)

    def caller(self, model: str, version: str | None = None) -> Call:
        if self._gateway is not None:
            return caller_of(self._gateway, f"/models/{model}" + (f"/versions/{version}" if version else ""))
        shares = live(self, model) if version is None else {version: 100}
        service = f"{model}-{max(shares, key=lambda name: shares[name])}"
        path = f"/api/v1/namespaces/{self._cluster.namespace}/services/{service}:80/proxy"
        return caller_of(self._cluster.http, path)

    def lives(self, model: str) -> set[str]:
        return {one["metadata"]["name"] for one in self._pods(model)}

    def kill(self, model: str) -> str:
        victim = min(self.lives(model))
        self._cluster.delete(POD, victim, gracePeriodSeconds=0)
        return victim

    def _pods(self, model: str) -> list[dict[str, Any]]:
        found = self._cluster.all(POD, **{MODEL_LABEL: model})
        return [one for one in found if not one["metadata"].get("deletionTimestamp")]

    def stop_control(self) -> None:
        self._cluster.kill_operator()

    def start_control(self) -> None:
        self._cluster.start_operator()

    def kubernetes(self) -> dict[str, Any]:
        option = self._config.getoption
        found: dict[str, Any] = {"image": self._image}
        if gateway := option("--cluster-gateway"):
            namespace, _, name = gateway.partition("/")
            found["route"] = {"gateway": {"name": name, "namespace": namespace}}
        elif ingress := option("--cluster-ingress"):
            found["route"] = {"ingress": {"className": ingress}}
        if labels := option("--cluster-selector"):
            found["nodeSelector"] = dict(label.split("=", 1) for label in labels)
        if keys := option("--cluster-toleration"):
            found["tolerations"] = [{"key": key, "operator": "Exists"} for key in keys]
        return found


@pytest.fixture(scope="session")
def cluster_place(
    request: pytest.FixtureRequest, real_cluster: RealCluster, cluster_image: str
) -> Iterator[ClusterPlace]:
    """The whole test run's: each test uses model names of its own and deletes them."""
    url = request.config.getoption("--cluster-url")
    with ExitStack() as stack:
        gateway = stack.enter_context(http_client(base_url=url)) if url else None
        yield ClusterPlace(real_cluster, cluster_image, request.config, gateway)
