"""What a warm start takes beside a cold one, in time and in memory.

For a random forest and a logistic regression of scikit-learn (artifacts, no code of their own), on the local runtime
with the default probes: replicas that each load the model by themselves, then as many that are forked from a template.
Each is asked for while those before it run, and answers 50 requests before it is measured.

Time is from ``apply`` to READY, by this process's clock. Memory is by how much the PSS of all processes together (the
template among them) grows with one more replica: shared pages count once. A warm replica is to be ready within one
tenth of a cold start's time and to cost at most 0.3 of its memory, medians of one run. Told as well: the first warm
start of a version, which waits for the template, beside the first cold one before it; and starts after zero replicas.

    python benchmarks/warm_start.py [--replicas 6]

Exit 0 when all of it held, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import joblib
import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from headway.adapters.local import LocalRuntime, SystemClock, procfs, run_dir_for
from headway.adapters.local.adoption import scan
from headway.domain.replicas import ReplicaSpec
from headway.domain.spec import VersionSpec

COLUMNS: Final = 20
REQUESTS: Final = 50
TIME_SHARE, MEMORY_SHARE = 0.1, 0.3
FIRSTS: Final = 7
ZEROS: Final = 10
MIB: Final = 1024 * 1024


def models() -> dict[str, object]:
    """The two, fitted."""
    generator = numpy.random.default_rng(7)
    x = generator.normal(size=(20_000, COLUMNS))
    y = (x[:, :5].sum(axis=1) + generator.normal(size=len(x)) > 0).astype(int)
    return {
        "forest": RandomForestClassifier(200, n_jobs=1, random_state=7).fit(x, y),
        "logistic": LogisticRegression(max_iter=500).fit(x, y),
    }


class Bench:
    """One model on a runtime of its own."""

    def __init__(self, home: Path, name: str, bundle: Path) -> None:
        self._home = home
        self._name = name
        self._bundle = bundle
        self._runtime = LocalRuntime(home, run_dir_for(home), clock=SystemClock(), server_env=dict(os.environ))
        self._serial = 0

    async def __aenter__(self) -> Bench:
        await self._runtime.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runtime.stop(stop_replicas=True)

    def spec(self, *, warm: bool, version: str = "v1") -> ReplicaSpec:
        """A replica that was never there."""
        self._serial += 1
        return ReplicaSpec(
            replica_id=f"{self._name}-{version}-{self._serial:05d}",
            model=self._name,
            version=version,
            digest=version * 32,
            bundle_path=str(self._bundle),
            python=sys.executable,
            entrypoint=None,
            probes=VersionSpec.model_validate({}).probes(),
            warm=warm,
        )

    async def ready(self, specs: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> float:
        """Seconds until all of ``specs``, and no others, are there and ready."""
        began = time.perf_counter()
        await self._runtime.apply(specs, warm)
        while True:
            seen = self._runtime.observe()
            if len(seen) == len(specs) and all(status.ready for status in seen):
                return time.perf_counter() - began
            await asyncio.sleep(0.0005)

    async def used(self, replica_id: str) -> int:
        """Bytes that all processes use together, once this replica has answered requests."""
        status = next(s for s in self._runtime.observe() if s.replica_id == replica_id)
        assert status.address is not None
        body = json.dumps([[0.1] * COLUMNS] * 10).encode()
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        reader, writer = await asyncio.open_unix_connection(status.address.removeprefix("unix:"))
        for _ in range(REQUESTS):
            writer.write(head.encode() + b"\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        await writer.wait_closed()
        return sum(procfs.proportional_bytes(process.pid) for process in scan(self._home))

    async def grow(self, count: int, *, warm: bool) -> tuple[list[float], list[float]]:
        """One replica after the other: seconds to ready, and bytes that each added (from the second on)."""
        specs: list[ReplicaSpec] = []
        seconds: list[float] = []
        used: list[int] = []
        for _ in range(count):
            specs.append(self.spec(warm=warm))
            seconds.append(await self.ready(specs))
            used.append(await self.used(specs[-1].replica_id))
        return seconds, [float(b - a) for a, b in itertools.pairwise(used)]

    async def firsts(self) -> tuple[list[float], list[float]]:
        """The first replica of a version, cold and warm in turn."""
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(FIRSTS):
            for warm in (False, True):
                seconds[warm].append(await self.ready([self.spec(warm=warm, version=f"{'w' if warm else 'c'}{turn}")]))
                await self.ready([])
        return seconds[False], seconds[True]

    async def after_zero(self) -> list[float]:
        """A replica where there was none, the version being kept warm."""
        kept = self.spec(warm=True)
        await self.ready([kept], [kept])
        seconds = []
        for _ in range(ZEROS):
            await self.ready([], [kept])
            seconds.append(await self.ready([self.spec(warm=True)], [kept]))
        return seconds


async def measure(folder: Path, name: str, count: int) -> bool:
    """Measure one model and tell; whether all of it held."""
    async with Bench(folder / f"{name}-home", name, folder / name) as bench:
        cold_s, cold_bytes = await bench.grow(count, warm=False)
        await bench.ready([])
        warm_s, warm_bytes = await bench.grow(count, warm=True)
        await bench.ready([])
        zero_s = await bench.after_zero()
        first_cold, first_warm = await bench.firsts()
    time_share = statistics.median(warm_s[1:]) / statistics.median(cold_s[1:])
    memory_share = statistics.median(warm_bytes) / statistics.median(cold_bytes)
    first_s = statistics.median(w - c for c, w in zip(first_cold, first_warm, strict=True))
    good = time_share <= TIME_SHARE and memory_share <= MEMORY_SHARE
    size = sum(file.stat().st_size for file in (folder / name).iterdir()) / MIB
    print(f"{name} (artifact of {size:.1f} MiB), {count} replicas each way")
    print(f"    ready:  cold {ms(cold_s[1:])}, warm {ms(warm_s[1:])}: {time_share:.3f} (at most {TIME_SHARE})")
    print(f"    memory: cold {mib(cold_bytes)}, warm {mib(warm_bytes)}: {memory_share:.3f} (at most {MEMORY_SHARE})")
    print(f"    first:  cold {ms(first_cold)}, warm {ms(first_warm)}: {first_s * 1000:+.0f} ms, median of pairs")
    print(f"    after zero replicas: {ms(zero_s)}")
    print(f"    {'pass' if good else 'FALLS SHORT'}", flush=True)
    return good


def ms(seconds: Sequence[float]) -> str:
    """Median and range."""
    low, middle, high = (f"{1000 * s:.0f}" for s in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle} ms ({low} to {high})"


def mib(sizes: Sequence[float]) -> str:
    """Median and range."""
    low, middle, high = (f"{s / MIB:.1f}" for s in (min(sizes), statistics.median(sizes), max(sizes)))
    return f"{middle} MiB ({low} to {high})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=6)
    given = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as scratch:
        folder = Path(scratch)
        for name, model in models().items():
            (folder / name).mkdir()
            (folder / f"{name}-home").mkdir()
            joblib.dump(model, folder / name / "model.joblib")
            good = asyncio.run(measure(folder, name, given.replicas)) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
