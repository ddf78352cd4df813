"""A thousand ModelDeployments in a Kubernetes API faked at the wire: the first reconcile, then nothing to do.

    python benchmarks/kubernetes_scale.py [--models 1000] [--idle 60]

The operator is a process of its own, as on a cluster; the API server and what stands in for Kubernetes' controllers are
this one. Told are the time until every model is as its document says (all objects, and a status that says so), the
requests it took and the processor time of either process, and then, while nothing happens, the operator's processor
time and requests. Exit 0 when the first reconcile took less than a minute, and idle the operator took less than 5 % of
a core and listed nothing; 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the faked API is the tests' own

from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import KINDS, bring_up, model, put

MOST_RECONCILE_S = 60.0
MOST_IDLE_PERCENT = 5.0


async def measure(models: int, idle_s: float) -> dict[str, Any]:
    async with KubernetesApi(KINDS) as api:
        for number in range(models):
            put(api, model(name=f"m{number}", scaling={"minReplicas": 2}))
        with tempfile.TemporaryDirectory() as folder:
            operator = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headway.cli.main", "operator", env=_environment(api.url, Path(folder)),
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            process = psutil.Process(operator.pid)
            try:
                began, busy_s = time.monotonic(), time.process_time()
                while len(_told(api)) < models:  # noqa: ASYNC110 - looking costs the server time that the operator waits for
                    await asyncio.sleep(0.5)
                made_s, used, served_s = time.monotonic() - began, process.cpu_times(), time.process_time() - busy_s
                while not (bring_up(api) and _serving(api)):  # noqa: ASYNC110
                    await asyncio.sleep(2.0)
                serving_s, asked = time.monotonic() - began, Counter(method for method, _ in api.requests)
                await asyncio.sleep(5.0)
                before, requests = process.cpu_times(), len(api.requests)
                await asyncio.sleep(idle_s)
                after = process.cpu_times()
                since = Counter(method for method, path in api.requests[requests:] if "/leases" not in path)
                return {
                    "models": models,
                    "objects": sum(len(api.cluster.every(kind)) for kind in OWNED),
                    "first_reconcile_s": round(made_s, 1),
                    "operator_cpu_s": round(used.user + used.system, 1),
                    "api_server_cpu_s": round(served_s, 1),
                    "serving_s": round(serving_s, 1),
                    "requests": dict(asked),
                    "idle_s": idle_s,
                    "idle_cpu_percent": round(
                        100 * (after.user + after.system - before.user - before.system) / idle_s, 2
                    ),
                    "idle_requests": dict(since),
                    "rss_mib": round(process.memory_info().rss / 2**20),
                }
            finally:
                operator.terminate()
                await operator.wait()


def _told(api: KubernetesApi) -> set[str]:
    """The models that have a status: it is written last, when all objects are."""
    return {path for path in api.asked("PATCH") if "/modeldeployments/" in path and "/status" in path}


def _serving(api: KubernetesApi) -> bool:
    return all(
        item.get("status", {}).get("traffic") == "v1 100 %" and item["status"]["readyReplicas"] == 2
        for item in api.cluster.every(MODEL_DEPLOYMENT)
    )


def _environment(url: str, folder: Path) -> dict[str, str]:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(json.dumps(document))
    return {**os.environ, "KUBECONFIG": str(folder / "kubeconfig")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to look on while nothing happens")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.models, arguments.idle))
    print(json.dumps(found, indent=2))
    held = (
        found["first_reconcile_s"] < MOST_RECONCILE_S
        and found["idle_cpu_percent"] < MOST_IDLE_PERCENT
        and "LIST" not in found["idle_requests"]
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
