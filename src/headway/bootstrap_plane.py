"""Bootstrap of the control plane: its adapters, its rooms, and the one order in which they start and stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.local import LocalReplicaStats, LocalRuntime, SystemClock, run_dir_for
from headway.adapters.local.bundles import LocalBundleStore
from headway.adapters.local.environments import UvEnvironments
from headway.adapters.local.scaling_functions import LocalScalingFunctions
from headway.adapters.querylog.payloads import FilePayloadLog
from headway.adapters.sql import SqlDatabase, SqlDecisionLog, SqlDeploymentStore, SqlEventLog, SqlTokenStore
from headway.bootstrap_jobs import JobsPart
from headway.bootstrap_parts import event_relay, metric_sources, query_log_dir, query_log_of
from headway.control.book import DeploymentBook
from headway.control.builds import EnvironmentBuilds
from headway.control.comparisons import ComparisonService
from headway.control.decisions import DecisionService
from headway.control.payloads import PayloadService
from headway.control.query_log import QueryLogKeeper, QueryLogService
from headway.control.reconciler import Reconciler
from headway.control.recorder import GatewayWatch, TransitionRecorder
from headway.control.replica_specs import replica_suffix
from headway.control.scaling_service import autoscaler
from headway.control.service import ControlService
from headway.control.tokens import TokenService
from headway.control.trial_judge import TrialJudge
from headway.domain import tokens as token_rules
from headway.domain.errors import InsecureListener
from headway.domain.events import EventType, NewEvent
from headway.domain.query_log import Retention
from headway.domain.tokens import Scope
from headway.home import admin_token
from headway.settings import Settings, is_loopback

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What keeps requests safe while things change. Switched off only to show, by experiment, that it is needed."""

    drain: bool = True
    retries: bool = True
    job_server: tuple[str, ...] = ()
    """Arguments of the job server: ``--without fencing``, …"""


def gateway_of(settings: Settings, safeguards: Safeguards) -> HaproxyGateway:
    """The gateway of the home in ``settings``."""
    return HaproxyGateway(
        home=settings.home_path,
        host=settings.data_host,
        port=settings.data_port,
        keep_alive_s=settings.keep_alive_s,
        binary=settings.haproxy,
        retries=safeguards.retries,
        query_log=settings.query_log,
    )


class ControlPlane:
    """Every part of a running control plane, started and stopped in the one order that is safe."""

    def __init__(self, settings: Settings, safeguards: Safeguards) -> None:
        self.settings = settings
        self.home = home = settings.home_path
        self.clock = SystemClock()
        self.database = SqlDatabase(home / "headway.db")
        self.events = SqlEventLog(self.database)
        self.relay = event_relay(settings, self.database, self.events, self.clock)
        self.decisions = SqlDecisionLog(self.database)
        self.bundles = LocalBundleStore(home / "bundles")
        self.book = DeploymentBook(SqlDeploymentStore(self.database))
        self.gateway = gateway_of(settings, safeguards)
        run_dir = run_dir_for(home)
        self.jobs = JobsPart(settings, run_dir, self.clock, safeguards.job_server)
        self.runtime = LocalRuntime(
            home,
            run_dir,
            clock=self.clock,
            server_env=os.environ,
            shadow_gateway=self.gateway.internal_address,
            query_log_dir=query_log_dir(home) / "segments" if settings.query_log else None,
            job_server=self.jobs.workers,
        )
        self.tokens = TokenService(
            SqlTokenStore(self.database), self.clock, home_admin_sha256=token_rules.digest(admin_token(home))
        )
        self.builds = EnvironmentBuilds(self.book, self.bundles, UvEnvironments(home / "environments"), self.clock)
        self.require_token = not is_loopback(settings.data_host)
        self.adopted = False
        """Whether anything ran already when it started."""
        work = self.jobs.assemble(
            book=self.book,
            runtime=self.runtime,
            bundles=self.bundles,
            builds=self.builds,
            decisions=self.decisions,
            events=self.events,
        )
        self.reconciler = Reconciler(
            book=self.book,
            runtime=self.runtime,
            gateway=self.gateway,
            bundles=self.bundles,
            builds=self.builds,
            events=self.events,
            clock=self.clock,
            tokens=self.tokens.gateway_tokens,
            suffix=replica_suffix,
            require_token=self.require_token,
            drain=safeguards.drain,
            workers=work.workers if work is not None else None,
            jobs=self.jobs.callers,
        )
        self.tokens.on_change = self.reconciler.wake
        self.service = ControlService(self.book, self.runtime, self.bundles, self.events, self.clock, work)
        self.recorder = TransitionRecorder(self.runtime, self.events, self.clock, self.reconciler.wake, self.jobs.look)
        self.watch = GatewayWatch(self.gateway, self.events, self.clock)
        # Also when nothing new is logged: what was logged can still be asked for, and still gets too old.
        self.query_log = query_log_of(settings)
        retention = Retention(max_age_s=settings.query_log_max_age_s, max_bytes=settings.query_log_max_bytes)
        payloads = FilePayloadLog(query_log_dir(home) / "payloads")
        self.keeper = QueryLogKeeper(
            self.query_log,
            self.events,
            self.clock,
            retention,
            payloads=payloads,
            payload_retention=replace(retention, max_bytes=settings.payload_max_bytes),
        )
        self.stats = LocalReplicaStats(home, self.clock, self.runtime.processes_of)
        self.autoscaler = autoscaler(
            book=self.book,
            runtime=self.runtime,
            gateway=self.gateway,
            bundles=self.bundles,
            stats=self.stats,
            query_log=self.query_log,
            sources=metric_sources(os.environ) | self.jobs.sources(self._deployed),
            functions=LocalScalingFunctions(home, clock=self.clock, server_env=os.environ),
            decisions=self.decisions,
            events=self.events,
            clock=self.clock,
            leaving=lambda: self.reconciler.leaving,
            max_age_s=settings.decisions_max_age_s,
        )
        latest, jobs = self.autoscaler.latest, work.workers.latest if work is not None else None
        self.decision_service = DecisionService(self.decisions, latest, self.clock, self._deployed, jobs)
        self.comparisons = ComparisonService(self.query_log, self.clock, self.book.find)
        self.trial_judge = TrialJudge(self.book, self.query_log, self.clock)
        self.query_log_service = QueryLogService(self.query_log, self.clock, self._deployed)
        self.payload_service = PayloadService(payloads, self.clock, self._deployed)

    async def start(self) -> None:
        """Read the state, adopt what runs, begin to reconcile."""
        await self.database.open()
        await self.bundles.open()
        await self.book.load()
        await self.tokens.load()
        self._refuse_open_listeners()
        if self.relay is not None:
            await self.relay.start()
        await self.events.append([NewEvent(self.clock.now(), EventType.CONTROL_STARTED, data={"pid": os.getpid()})])
        await self.runtime.start()
        await self.jobs.open()
        await self.recorder.start()
        await self.keeper.start()
        await self.jobs.start_server()
        await self.gateway.start()
        self.adopted = bool(self.runtime.observe()) or self.gateway.status().adopted
        await self.watch.start()
        self.builds.mend()
        await self.jobs.start_workers()
        await self.reconciler.start()
        await self.autoscaler.start()
        await self.trial_judge.start()

    async def stop(self) -> None:
        """Answer what is in flight, then stop everything: routes, gateway, replicas.

        A step that fails is logged and does not keep the next ones from being taken.
        """
        stopped = NewEvent(self.clock.now(), EventType.CONTROL_STOPPED, data={"pid": os.getpid()})
        steps: list[Callable[[], Awaitable[object]]] = [
            self.trial_judge.stop,
            self.autoscaler.stop,
            self.jobs.stop_workers,
            self.reconciler.stop,
            self.jobs.quiesce,
            lambda: self.gateway.stop(stop_gateway=True),
            self.watch.look,
            self.watch.stop,
            lambda: self.runtime.stop(stop_replicas=True),
            lambda: self.jobs.stop_server(stop_server=True),
            self.recorder.stop,
            self.jobs.close,
            self.keeper.stop,  # when nobody writes any more, so that the last records are seen
            self.query_log.close,
            lambda: self.events.append([stopped]),
            self._stop_relay,
            self.database.close,
        ]
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("a step of stopping failed; going on with the next")

    async def abandon(self) -> None:
        """After a failure of our own: let go of gateway and replicas, which serve on, for the next one to adopt."""
        await self.trial_judge.stop()
        await self.autoscaler.stop()
        await self.jobs.stop_workers()
        await self.reconciler.stop()
        await self.watch.stop()
        await self.jobs.stop_server(stop_server=False)
        await self.gateway.stop(stop_gateway=False)
        await self.runtime.stop(stop_replicas=False)
        await self.recorder.stop()
        await self.jobs.close()
        await self.keeper.stop()
        await self.query_log.close()
        await self._stop_relay()
        await self.database.close()

    async def _stop_relay(self) -> None:
        if self.relay is not None:
            await self.relay.stop()

    def _deployed(self, model: str) -> bool:
        return self.book.find(model) is not None

    def _refuse_open_listeners(self) -> None:
        settings = self.settings
        how = "create one while listening on loopback: headway token create NAME --scope {scope}"
        if not is_loopback(settings.data_host) and not self.tokens.has_active(Scope.PREDICT):
            raise InsecureListener(
                f"refusing to serve models on {settings.data_host}: there is no token that may predict",
                where="--data-host",
                hint=how.format(scope="predict"),
            )
        if not is_loopback(settings.control_host) and not self.tokens.has_active(Scope.DEPLOY):
            raise InsecureListener(
                f"refusing to serve the control API on {settings.control_host}: there is no token that may deploy",
                where="--control-host",
                hint=how.format(scope="deploy"),
            )
