"""The cluster that KUBECONFIG names, with a namespace and an operator of the test run's own."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig

from headway.cluster.install import NAME as OPERATOR
from headway.cluster.install import install, installed_kind
from headway.domain.cluster_objects import Kind
from tests.installation import HEADWAY, Outcome
from tests.leaks import environment, make_scratch, remove_scratch
from tests.waiting import PATIENCE_S, wait_until

MODEL = Path(__file__).parents[1] / "e2e" / "blackbox" / "model"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
CUSTOM_RESOURCES = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
NAMESPACE = Kind("v1", "Namespace", "namespaces", False)
OLDEST = (1, 30)


class RealCluster:
    """Reads and writes as a user with kubectl would, and the command line with this cluster as its context."""

    def __init__(self, http: httpx2.Client, config: SingleConfig, context: str, namespace: str, scratch: Path) -> None:
        self.http = http
        self.context = context
        self.namespace = namespace
        self.scratch = scratch
        self.server = config.cluster.server
        self._config = config
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HEADWAY_")}
        self.env = {**inherited, **environment(scratch), "NO_COLOR": "1", "COLUMNS": "200"}
        self._operator: subprocess.Popen[bytes] | None = None

    # -- objects ---------------------------------------------------------------------------------------

    def path(self, kind: Kind, name: str = "", namespace: str | None = None) -> str:
        root = "/api/v1" if kind.api_version == "v1" else f"/apis/{kind.api_version}"
        inside = f"/namespaces/{namespace or self.namespace}" if kind.namespaced else ""
        return f"{root}{inside}/{kind.plural}" + (f"/{name}" if name else "")

    def read(self, kind: Kind, name: str) -> dict[str, Any] | None:
        return self._answer(self.http.get(self.path(kind, name)))

    def all(self, kind: Kind, **labels: str) -> list[dict[str, Any]]:
        """Those of the test run's namespace."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._answer(self.http.get(self.path(kind), params={"labelSelector": selector}))
        return list(found["items"]) if found else []

    def apply(self, kind: Kind, item: dict[str, Any], manager: str = "kubectl") -> dict[str, Any]:
        """Server-side, as ``manager``; the test fails when it is refused."""
        metadata = item["metadata"]
        answer = self.http.patch(
            self.path(kind, metadata["name"], metadata.get("namespace")),
            params={"fieldManager": manager, "force": "true"},
            content=json.dumps(item),
            headers={"content-type": "application/apply-patch+yaml"},
        )
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def delete(self, kind: Kind, name: str, **options: Any) -> None:
        """Nothing when there is none."""
        self._answer(
            self.http.request("DELETE", self.path(kind, name), json={"propagationPolicy": "Background", **options})
        )

    def knows(self, kind: Kind) -> bool:
        """Whether the kind is served here."""
        return self._answer(self.http.get(self.path(kind))) is not None

    @staticmethod
    def _answer(answer: httpx2.Response) -> dict[str, Any] | None:
        if answer.status_code == 404:
            return None
        assert answer.status_code in (200, 201, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    # -- commands --------------------------------------------------------------------------------------

    def run(self, *args: str, timeout_s: float = 600.0) -> Outcome:
        """``headway ARGS`` with this cluster and namespace as its context."""
        done = subprocess.run(
            [str(HEADWAY), *args],
            input="",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self.scratch,
            env={**self.env, "HEADWAY_CONTEXT": self.context, "HEADWAY_NAMESPACE": self.namespace},
            check=False,
        )
        return Outcome(args, done.returncode, done.stdout, done.stderr)

    # -- the operator ----------------------------------------------------------------------------------

    def start_operator(self) -> None:
        """``headway operator`` as a process here, with a token of its service account and no other rights."""
        kubeconfig = self.scratch / "operator.kubeconfig"
        kubeconfig.write_text(json.dumps(self._operator_config()))
        kubeconfig.chmod(0o600)
        env = {**self.env, "KUBECONFIG": str(kubeconfig), "HEADWAY_OPERATOR_NAMESPACE": self.namespace}
        log = self.scratch / "operator.log"
        with log.open("ab") as out:
            begun = log.stat().st_size
            self._operator = subprocess.Popen(
                [str(HEADWAY), "operator", "--namespace", self.namespace],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True,
            )  # fmt: skip
        operator = self._operator

        def leads() -> bool:
            said = log.read_text()[begun:]
            assert operator.poll() is None, f"headway operator ended with {operator.returncode}:\n{said}"
            return "is leading" in said

        wait_until(leads, PATIENCE_S, what=f"the operator leads; see {log}")

    def kill_operator(self) -> None:
        """SIGKILL."""
        assert self._operator is not None
        self._operator.kill()
        self._operator.wait()

    def stop_operator(self) -> int:
        """SIGTERM; its exit code."""
        assert self._operator is not None
        self._operator.terminate()
        return self._operator.wait(PATIENCE_S)

    def end(self) -> None:
        """Leave no process, however it went."""
        if self._operator is not None and self._operator.poll() is None:
            self.kill_operator()

    def operator_log(self) -> str:
        return (self.scratch / "operator.log").read_text()

    def _operator_config(self) -> dict[str, Any]:
        accounts = Kind("v1", "ServiceAccount", "serviceaccounts")
        answer = self.http.post(
            self.path(accounts, f"{OPERATOR}/token"),
            json={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 86_400},
            },
        )
        assert answer.status_code == 201, answer.text
        cluster: dict[str, Any] = {"server": self.server}
        known = self._config.cluster
        if known.certificate_auth_data:
            cluster["certificate-authority-data"] = known.certificate_auth_data
        elif known.certificate_auth:
            file = Path(self._config.abs_file(known.certificate_auth))
            cluster["certificate-authority-data"] = base64.b64encode(file.read_bytes()).decode()
        if known.insecure:
            cluster["insecure-skip-tls-verify"] = True
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tested", "cluster": cluster}],
            "users": [{"name": "operator", "user": {"token": answer.json()["status"]["token"]}}],
            "contexts": [{"name": "tested", "context": {"cluster": "tested", "user": "operator"}}],
            "current-context": "tested",
        }


def _own_names(objects: list[dict[str, Any]], suffix: str) -> list[dict[str, Any]]:
    """What :func:`install` gives, without the operator's Deployment and its budget, under names that no installation
    of Headway on this cluster has."""
    kept = []
    for one in objects:
        if one["kind"] in ("Deployment", "PodDisruptionBudget", "Namespace"):
            continue
        if one["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            name = f"{one['metadata']['name']}-{suffix}"
            one = {**one, "metadata": {**one["metadata"], "name": name}}
            if "roleRef" in one:
                one["roleRef"] = {**one["roleRef"], "name": name}
        kept.append(one)
    return kept


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> Iterator[RealCluster]:
    """The cluster, with a restricted namespace and an operator; all of it gone at the end."""
    option = request.config.getoption
    whole = KubeConfig.from_env()
    context = str(option("--cluster-context") or whole.current_context or "")
    config = whole.get(context) if context else None
    if config is None:
        pytest.fail("no cluster: KUBECONFIG names none, or has no such context", pytrace=False)
    namespace = f"headway-test-{secrets.token_hex(3)}"
    scratch = make_scratch()
    with Client(config, ConnectionParams(timeout=httpx2.Timeout(PATIENCE_S))) as http:
        cluster = RealCluster(http, config, context, namespace, scratch)
        _check_release(http)
        made: list[tuple[Kind, str]] = []
        try:
            labels = {**RESTRICTED, "headway.dev/test": "true"}
            cluster.apply(
                NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
            )
            if option("--cluster-operator") == "process":
                for one in _own_names(install("registry.example/headway:1", namespace), namespace[-6:]):
                    kind, name = installed_kind(one), one["metadata"]["name"]
                    if not kind.namespaced and cluster.read(kind, name) is None:
                        made.append((kind, name))
                    cluster.apply(kind, one, "headway")
                cluster.start_operator()
            yield cluster
            if option("--cluster-operator") == "process":
                assert cluster.stop_operator() == 0, cluster.operator_log()
                assert "Traceback" not in cluster.operator_log(), cluster.operator_log()
        finally:
            cluster.end()
            cluster.delete(NAMESPACE, namespace)
            wait_until(lambda: cluster.read(NAMESPACE, namespace) is None, 300, what=f"namespace {namespace} gone")
            for kind, name in reversed(made):
                cluster.delete(kind, name)
    remove_scratch(scratch)


def _check_release(http: httpx2.Client) -> None:
    """What the server says of itself, where it says something."""
    version = http.get("/version").json()
    major, minor = (version.get(part, "").rstrip("+") for part in ("major", "minor"))
    if major.isdigit() and minor.isdigit() and (0, 0) < (int(major), int(minor)) < OLDEST:
        pytest.fail(f"Kubernetes {major}.{minor} is older than 1.30", pytrace=False)


@pytest.fixture(scope="session")
def cluster_image(request: pytest.FixtureRequest, real_cluster: RealCluster) -> str:
    """The image of the suite's model, by digest where it was pushed just now."""
    option = request.config.getoption
    if image := option("--cluster-image"):
        return str(image)
    registry = option("--cluster-registry")
    if not registry:
        pytest.fail("say --cluster-image IMAGE or --cluster-registry REGISTRY/NAME (pytest --help)", pytrace=False)
    base = ("--base", option("--cluster-base")) if option("--cluster-base") else ()
    done = subprocess.run(
        [str(HEADWAY), "build", str(MODEL), "--name", "times", "--push", registry, *base, "-o", "json"],
        capture_output=True, text=True, env=real_cluster.env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["pushed"]["image"])
