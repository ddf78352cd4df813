"""What happens to an installation while it works: processes killed or paused at random, connections cut."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import psutil
from installation import Installation

from jobs.services import Postgresql, Rabbitmq

JOB_SERVER = "headway.job_server"
MODEL_SERVER = "headway.server"


class Chaos:
    """A thread that does one of ``deeds`` every now and then, until :meth:`calm`. Deterministic but for the timing."""

    def __init__(self, installation: Installation, model: str, seed: int, *, pause_s: float, lease_s: float) -> None:
        self.done: Counter[str] = Counter()
        self._installation = installation
        self._model = model
        self._home = str(installation.home.resolve())
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._lease_s = lease_s
        self._over = threading.Event()
        self._paused: list[tuple[float, psutil.Process]] = []
        self._by_hand: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="chaos")
        self._deeds: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker killed": (5, lambda: self._kill(self._workers())),
            "some replica, worker or template killed": (1, lambda: self._kill(self._processes(MODEL_SERVER))),
            "worker paused beyond its lease": (3, self._pause),
            "job server killed": (5, lambda: self._kill(self._processes(JOB_SERVER))),
            # Nobody tells of its end: only the lease does.
            "worker started by hand killed": (3, self._kill_worker_by_hand),
            "control plane killed": (1, self._kill_control),
            "control plane and workers killed at once": (2, self._kill_all),
        }

    def with_services(self, database: Postgresql, broker: Rabbitmq) -> Chaos:
        """Also to these."""

        def restarted(service: Postgresql | Rabbitmq, before: Callable[[], None] = lambda: None) -> bool:
            service.kill()
            before()
            time.sleep(self._random.uniform(0, 1))
            service.start()
            return True

        def cut() -> bool:
            database.cut_connections()
            return True

        self._deeds |= {
            "database connections cut": (3, cut),
            "database killed": (1, lambda: restarted(database)),
            "broker killed": (1, lambda: restarted(broker)),
            "broker killed and wiped": (1, lambda: restarted(broker, broker.wipe)),
        }
        return self

    def begin(self) -> None:
        self._thread.start()

    def calm(self) -> None:
        """No more of it; who is paused goes on, and the control plane runs."""
        self._over.set()
        self._thread.join()
        self._resume(everybody=True)
        if self._by_hand is not None:
            self._by_hand.terminate()
            self._by_hand.wait()

    def _run(self) -> None:
        names = list(self._deeds)
        weights = [self._deeds[name][0] for name in names]
        while not self._over.wait(self._random.uniform(0.3, 1.7) * self._pause_s):
            self._resume()
            name = self._random.choices(names, weights)[0]
            if self._deeds[name][1]():
                self.done[name] += 1

    def _processes(self, module: str, below: str = "") -> list[psutil.Process]:
        """Of the home, or of a folder ``below`` it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                home = process.environ().get("HEADWAY_HOME", "")
                here = home.startswith(f"{self._home}/{below}/") if below else home == self._home
                if here and module in process.cmdline():
                    found.append(process)
        return found

    def _workers(self) -> list[psutil.Process]:
        """By the runtime's own records, which are there while no control plane is."""
        found = []
        for record in self._installation.home.glob("replicas/*/record.json"):
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                known = json.loads(record.read_text())
                if known["spec"].get("role") == "work" and known["pid"]:
                    found.append(psutil.Process(known["pid"]))
        return found

    def _kill(self, processes: list[psutil.Process]) -> bool:
        """One of them."""
        with contextlib.suppress(psutil.Error):
            if processes:
                self._random.choice(processes).kill()
                return True
        return False

    def _pause(self) -> bool:
        """A worker: its leases run out while it believes to hold them."""
        with contextlib.suppress(psutil.Error):
            if workers := self._workers():
                process = self._random.choice(workers)
                process.suspend()
                self._paused.append((time.monotonic() + 2 * self._lease_s, process))
                return True
        return False

    def _resume(self, *, everybody: bool = False) -> None:
        now = time.monotonic()
        for until, process in self._paused[:]:
            if everybody or until <= now:
                self._paused.remove((until, process))
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def _kill_worker_by_hand(self) -> bool:
        """With who looks after it; then another one is started."""
        before, killed = self._by_hand, False
        if before is not None:
            before.kill()
            before.wait()
            for process in self._processes(MODEL_SERVER, "workers"):
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    killed = True
        command = [sys.executable, "-m", "headway.cli.main", "worker", self._model]
        with (self._installation.home / "worker.log").open("ab") as log:
            self._by_hand = subprocess.Popen(command, env=self._installation.env, stdout=log, stderr=log)
        return killed

    def _kill_control(self) -> bool:
        self._installation.kill()
        self._installation.up()
        return True

    def _kill_all(self) -> bool:
        self._installation.kill()
        for process in self._workers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(self._random.uniform(0, 2))
        self._installation.up()
        return True


def end_everything(installation: Installation, env: Mapping[str, str]) -> None:
    """``headway down`` after whatever happened."""
    subprocess.run(
        [sys.executable, "-m", "headway.cli.main", "down"], env=dict(env), check=False, stdout=subprocess.DEVNULL
    )
