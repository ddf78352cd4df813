"""Overload stays calm: at twice its capacity a model server answers as many as ever, in time, and refuses the rest.

A real model server process on one core, an open-loop generator with Poisson arrivals on the other; the generator's own
lateness counts as latency and must be small. Measured for a
random forest (batching pays) and for a model that takes 2 ms of pure Python for each row (batching gains nothing):

* capacity: the largest goodput seen while the offered rate is raised in steps;
* 0.8 of it: the p99 of what is accepted;
* 2.0 of it: goodput at least 0.9 of the peak, p99 of the accepted at most twice that at 0.8, refusals (429)
  within 5 ms at p99;
* 0.5 of it at once afterwards: from 2 s on, nothing is refused and p99 is that of an idle server.

Besides: a prediction of 5 s in pure Python must not keep ``/health/ping`` waiting for more than 100 ms.

The deployments declare a ``latencyTarget`` (what a request may take), except ``forest-default``, which has the default
options but for short batches. Exit 0 when every bar holds, 1 otherwise.

    python benchmarks/server_overload.py [--seconds 10] [--model forest|forest-default|python|pings]
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from poisson import Phase, Poisson, post, quantile
from replica import Server

FOREST = """
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

class Model:
    def load(self):
        self.forest = RandomForestClassifier(100, random_state=0).fit(*load_iris(return_X_y=True))
    def predict(self, X, features_names=None):
        return self.forest.predict(X)
"""
PYTHON = '''
import time

class Model:
    """2 ms of pure Python for each row."""
    def predict(self, X, features_names=None):
        for _ in X:
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
        return X[:, 0]
'''
SLEEPY = '''
import time

class Model:
    """As many seconds of pure Python as the first value says."""
    def predict(self, X, features_names=None):
        until = time.perf_counter() + X[0][0]
        while time.perf_counter() < until:
            pass
        return X[:, 0]
'''
MODELS: dict[str, tuple[str, dict[str, float]]] = {
    "forest": (FOREST, {"latency_target_s": 0.020, "max_batch_size": 16}),
    "forest-default": (FOREST, {"max_batch_size": 16}),
    "python": (PYTHON, {"latency_target_s": 0.030}),
}
"""Code and options. The batches of the forest are short so that the generator can bring twice what it answers."""
ROW = b"[[5.1, 3.5, 1.4, 0.2]]"
SETTLING_S = 1.0
"""Left out at the start of each phase."""


@dataclass
class Bar:
    what: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return (
            f"{'pass' if self.met else 'FALLS SHORT':11}  {self.what}: {self.value:.3g} (wanted {sign} {self.limit:g})"
        )


def settled(phase: Phase, *, after_s: float = SETTLING_S) -> Phase:
    """The phase without its first moments."""
    if not phase.answers:
        return phase
    start = min(due for due, *_ in phase.answers) + after_s
    return Phase([answer for answer in phase.answers if answer[0] >= start], phase.lateness_s)


def goodput(phase: Phase, seconds: float) -> float:
    return phase.statuses()[200] / (seconds - SETTLING_S)


def overload(name: str, server: Server, seconds: float) -> list[Bar]:
    request = post("/predict", ROW)
    generator = Poisson("127.0.0.1", server.port, lambda number: request)
    generator.warm(64)
    generator.run(100, 2)  # the server learns how long calls take
    peak, rate, short = 0.0, 200.0, 0
    while short < 2 and rate < 12_000:  # one step may fall short because the machine was busy with something else
        found = goodput(settled(generator.run(rate, 4)), 4)
        print(f"  {name}: offered {rate:7.0f}/s, answered {found:7.0f}/s", flush=True)
        peak = max(peak, found)
        short = short + 1 if found < 0.8 * rate else 0
        rate *= 1.5
    bars = []
    before = settled(generator.run(0.8 * peak, seconds))
    p99 = quantile(before.latencies_ms(200), 0.99)
    used_s = server.cpu_s()
    over = generator.run(2 * peak, seconds)
    used_s = server.cpu_s() - used_s
    during = settled(over)
    after = generator.run(0.5 * peak, 6)
    recovered = settled(after, after_s=2.0)
    good = goodput(during, seconds) / peak
    accepted, refused = during.latencies_ms(200), during.latencies_ms(429)
    for label, phase in (("0.8", before), ("2.0", during), ("0.5 after 2 s", recovered)):
        served = phase.latencies_ms(200)
        print(
            f"  {name} at {label} of {peak:.0f}/s: {dict(phase.statuses())}, "
            f"accepted p50 {quantile(served, 0.5):.1f} ms, "
            f"p99 {quantile(served, 0.99):.1f} ms, refused p99 {quantile(phase.latencies_ms(429), 0.99):.2f} ms, "
            f"generator late by {quantile(phase.lateness_s, 0.99) * 1e3:.2f} ms at p99",
            flush=True,
        )
    print(f"  {name}: at 2.0 the server had {used_s / seconds:.2f} of its core", flush=True)
    bars.append(Bar(f"{name}: goodput at 2.0, share of the peak", good, 0.9, True))
    bars.append(
        Bar(f"{name}: p99 of the accepted at 2.0, times that at 0.8", quantile(accepted, 0.99) / p99, 2.0, False)
    )
    bars.append(Bar(f"{name}: p99 of refusals at 2.0, ms", quantile(refused, 0.99), 5.0, False))
    bars.append(
        Bar(f"{name}: p99 of the generator's own lateness, ms", quantile(during.lateness_s, 0.99) * 1e3, 5.0, False)
    )
    strange = sum(count for status, count in during.statuses().items() if status not in (200, 429))
    bars.append(Bar(f"{name}: answers other than 200 and 429", strange, 0, False))
    bars.append(
        Bar(
            f"{name}: not 200 from 2 s after the overload on",
            recovered.statuses().total() - recovered.statuses()[200],
            0,
            False,
        )
    )
    bars.append(
        Bar(
            f"{name}: p99 from 2 s after the overload on, times that at 0.8",
            quantile(recovered.latencies_ms(200), 0.99) / p99,
            1.0,
            False,
        )
    )
    generator.close()
    return bars


def pings(port: int) -> Bar:
    """The slowest of pings during a prediction of 5 s."""

    def predict() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/predict", b"[[5.0]]")
        assert connection.getresponse().status == 200

    busy = threading.Thread(target=predict)
    busy.start()
    time.sleep(0.2)
    slowest, count = 0.0, 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while busy.is_alive():
        began = time.perf_counter()
        connection.request("GET", "/health/ping")
        response = connection.getresponse()
        response.read()
        slowest = max(slowest, time.perf_counter() - began)
        assert response.status == 200
        count += 1
        time.sleep(0.01)
    print(f"  {count} pings during a prediction of 5 s", flush=True)
    return Bar("slowest /health/ping during a prediction of 5 s, ms", slowest * 1e3, 100, False)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--model", choices=[*MODELS, "pings"], action="append")
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    bars = []
    for name in chosen.model or [*MODELS, "pings"]:
        code, options = MODELS.get(name, (SLEEPY, {}))
        with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
            server = Server(Path(folder), code, logged=True, **options)
            try:
                if name == "pings":
                    bars.append(pings(server.port))
                else:
                    bars += overload(name, server, chosen.seconds)
            finally:
                server.stop()
    print(*bars, sep="\n")
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
