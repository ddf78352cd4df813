"""Bootstrap of load tests on a cluster: what asks for one, and what its pods run."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.kubernetes.named_pods import NamedPodStats
from headway.adapters.kubernetes.pod_logs import KubernetesPodLogs
from headway.adapters.loadgen.hub import Door
from headway.adapters.loadgen.worker import work
from headway.adapters.local.clock import SystemClock
from headway.bootstrap_context import MANAGER
from headway.bootstrap_load import load_tester, users_tester
from headway.client.wire import error_of_document
from headway.cluster.load_objects import LoadRun
from headway.control.cluster_load_test import ClusterLoadTest
from headway.control.cluster_model_watch import ClusterModelWatch
from headway.control.cluster_models import ClusterModels
from headway.control.load_orders import LoadOrder
from headway.control.load_targets import route_url
from headway.control.load_test import LoadTester
from headway.control.scaling_loan import ScalingLoan
from headway.control.staged_scaling import StagedScaling
from headway.domain.errors import HeadwayError
from headway.domain.load_reports import LoadPoint, LoadReport
from headway.domain.load_shapes import LoadShape, Loop


def run_on_cluster(
    context: str | None,
    namespace: str | None,
    run_of: Callable[[str, str | None], LoadRun],
    shape: LoadShape,
    *,
    routed: str | None,
    patience_s: float,
    by_pod_address: bool,
    keep: bool,
    told: Callable[[str], None],
    progress: Callable[[LoadPoint], None],
) -> tuple[LoadReport | None, HeadwayError | None]:
    """Carry a load test out; no report when it was told to end (SIGINT, SIGTERM, SIGHUP) before there was any.

    ``run_of`` makes it of the namespace and, when the model ``routed`` is to be reached by its route, the route's URL;
    ``shape`` says when the model is to be scaled how. Beside the report: why the model is not scaled as before, if it
    is not. Raises what the test could not be carried out for.
    """

    async def run() -> tuple[LoadReport | None, HeadwayError | None]:
        connection = connect(context)
        chosen = namespace or connection.namespace
        async with connection.http as http:
            cluster = KubernetesCluster(http, chosen)
            url = None if routed is None else await route_url(cluster, chosen, routed)
            clock = SystemClock()
            made = run_of(chosen, url)
            watch = ClusterModelWatch(cluster, clock, chosen, made.model)
            scaling = None
            if shape.scales:
                models = ClusterModels(KubernetesCluster(http, chosen, manager=MANAGER), clock, chosen)
                loan = ScalingLoan(models, made.model, made.name)
                scaling = StagedScaling(loan, shape, watch, clock, told)
            test = ClusterLoadTest(
                cluster,
                KubernetesPodLogs(http, chosen, clock),
                clock,
                made,
                watch,
                patience_s=patience_s,
                by_pod_address=by_pod_address,
                keep=keep,
                scaling=scaling,
                told=told,
                progress=progress,
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    loop.add_signal_handler(number, test.stop)
            report = await test.run()
            if report is None and (failure := test.failure()) is not None:
                raise error_of_document(failure)
            return report, None if scaling is None else scaling.unreturned

    return asyncio.run(run())


@contextmanager
def tester_of(order: LoadOrder, port: int, token: str, replicas: str) -> Iterator[LoadTester]:
    """The master's: its workers come through ``port`` and show ``token``; ``replicas`` is the model's ``NAME:PORT``."""
    # All addresses: which one a pod has it is told by nobody. The token is what keeps others out.
    door = Door("0.0.0.0", port, token, patience_s=order.patience_s)  # noqa: S104
    name, _, at = replicas.rpartition(":")
    usage = NamedPodStats(name, int(at), SystemClock())
    if order.shape.loop is Loop.OPEN:
        yield load_tester(timeout_s=order.timeout_s, workers=order.workers, door=door, usage=usage)
        return
    with tempfile.TemporaryDirectory(prefix="headway-load-") as folder:
        locustfile = None
        if order.locustfile is not None:
            locustfile = Path(folder) / "locustfile.py"
            locustfile.write_bytes(order.locustfile)
        yield users_tester(
            locustfile=locustfile, workers=order.workers, timeout_s=order.timeout_s, door=door, usage=usage
        )


def run_worker(place: str, token: str, patience_s: float) -> int:
    """Be a worker of the master at ``place``; an exit code."""
    return work(place, token, patience_s)
