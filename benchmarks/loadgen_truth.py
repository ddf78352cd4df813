"""Whether load generators tell the truth, against a server whose delays are known beforehand.

The server answers at once, but stands still for 2 s in every 20: what arrives then is answered when the stall is over.
So what any arrival has to wait is known from the clock alone, and with it the true percentiles of a timetable. Measured
are the open-loop generator, with constant and with Poisson arrivals, and Locust's users at the same 6,000 a minute, as
Locust itself tells it and as the report of ``headway loadtest`` does. Usage: loadgen_truth.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from headway.adapters.loadgen.timetable import timetable
from headway.bootstrap_load import load_tester, users_tester
from headway.domain.load_samples import quantile
from headway.domain.load_shapes import Arrivals, LoadShape, rate, users
from headway.ports.load_generator import LoadRequest, LoadTarget

PERIOD_S, STALL_S = 20.0, 2.0
RATE = 100.0
USERS = 10
QUANTILES = (0.5, 0.9, 0.95, 0.99)
LOCUSTFILE = """
from locust import HttpUser, constant_pacing, task

class Someone(HttpUser):
    wait_time = constant_pacing(0.1)

    @task
    def ask(self):
        self.client.post("/predict", data=b"[[1]]", name="predict")
"""


def held_s(at_s: float) -> float:
    """How long what arrives then (on the monotonic clock) is held: stalls begin with each period."""
    return max(0.0, STALL_S - at_s % PERIOD_S)


class StallServer(asyncio.Protocol):
    """Keep-alive HTTP, every request answered when its stall is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._rest) < end + 4 + length:
                return
            self._rest = self._rest[end + 4 + length :]
            held = held_s(time.monotonic())
            loop = asyncio.get_running_loop()
            if held:
                loop.call_later(held, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")


def serve(port: int) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(StallServer, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(forever())


def truth(shape: LoadShape, began_s: float) -> list[float]:
    """Of the shape's own timetable, sorted."""
    return sorted(held_s(began_s + due_s) for due_s in timetable(shape))


async def measured(target: LoadTarget, shape: LoadShape) -> tuple[list[float], float, str]:
    """Latencies, when the load began, and whether the generator says that it kept up."""
    report = await load_tester().run(target, shape, [LoadRequest(b"[[1]]")])
    began_s = time.monotonic() + report.started_at - time.time()
    told = "; ".join(report.health.reasons) or f"late p99 {(report.health.late_p99_s or 0) * 1e3:.2f} ms"
    return report.samples.latencies(), began_s, told


async def locust_here(target: LoadTarget, seconds: float, file: Path) -> list[float]:
    """The same users, as the report of ``headway loadtest`` sees them."""
    report = await users_tester(locustfile=file).run(target, users(USERS, seconds), [])
    return report.samples.latencies()


def locust_itself(target: LoadTarget, seconds: float, file: Path) -> dict[float, float]:
    """What Locust prints of itself: percentiles of its rounded response times."""
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--host", target.url, "--json"]
    options = ["-u", str(USERS), "-r", str(USERS), "-t", f"{seconds:.0f}s", "--only-summary", "--skip-log"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    (entry,) = json.loads(done.stdout[done.stdout.index("[") :])
    times = sorted(
        float(rounded) / 1e3 for rounded, count in entry["response_times"].items() for _ in range(int(count))
    )
    return {q: quantile(times, q) or 0.0 for q in QUANTILES}


def row(name: str, values: list[float | None]) -> str:
    return f"| {name} | " + " | ".join("-" if v is None else f"{v * 1e3:,.1f}" for v in values) + " |"


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    port = _free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    worst = 0.0
    try:
        asyncio.run(_up(port))
        target = LoadTarget("stall", f"http://127.0.0.1:{port}")
        print(f"{RATE:g} requests/s for {seconds:g} s; a stall of {STALL_S:g} s every {PERIOD_S:g} s; milliseconds\n")
        print("| | " + " | ".join(f"p{q * 100:g}" for q in QUANTILES) + " |\n|---|" + "---:|" * len(QUANTILES))
        for arrivals in (Arrivals.CONSTANT, Arrivals.POISSON):
            shape = rate(RATE, seconds, arrivals=arrivals)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found, began_s, told = runner.run(measured(target, shape))
            true = truth(shape, began_s)
            print(row(f"true, {arrivals} arrivals", [quantile(true, q) for q in QUANTILES]))
            print(row(f"open loop, {arrivals} arrivals ({told})", [quantile(found, q) for q in QUANTILES]))
            error = abs((quantile(found, 0.99) or 0) / (quantile(true, 0.99) or 1) - 1)
            worst = max(worst, error)
            print(f"|   its p99 is off by {error:.2%} | | | | |")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "locustfile.py"
            file.write_text(LOCUSTFILE)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                here = runner.run(locust_here(target, seconds, file))
            print(
                row(f"{USERS} users of Locust, every request ({len(here):,})", [quantile(here, q) for q in QUANTILES])
            )
            itself = locust_itself(target, seconds, file)
            print(row(f"{USERS} users of Locust, as it tells itself", [itself[q] for q in QUANTILES]))
    finally:
        server.terminate()
        server.join()
    print(f"\nworst error of the open loop's p99: {worst:.2%}; promised: within 3 %")
    return 0 if worst < 0.03 else 1


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def _up(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit("the stall server does not come up")


if __name__ == "__main__":
    sys.exit(main())
