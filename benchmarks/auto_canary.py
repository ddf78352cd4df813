"""Canaries on trial, on the real gateway under load: a slower, a failing and a wrong version go, a good one comes in.

Each scenario deploys v1, puts it under load with feedback on every answer, deploys the next version with ``--auto`` and
waits for the end of the trial. Exit 0 when each ended as it should and no request failed but by the version itself.
``--kill`` also kills the control plane in the middle of the good one's trial and starts it again.

    python benchmarks/auto_canary.py [--rate 80] [--kill] [--only good]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from installation import Installation, write_model

from headway.api.schemas_deploy import MarginsBody, TrialBody

MODEL = '''"""{note}"""
import random
import time


class Judge:
    """Rows are (truth, u): right where u is small. Takes its time, and fails at times."""

    def predict(self, X, features_names=None):
        time.sleep({seconds})
        if random.random() < {failing}:
            raise RuntimeError("this version fails at times")
        return [int(truth) if u < {right} else 1 - int(truth) for truth, u in X]
'''
PLAIN = {"seconds": 0.004, "failing": 0.0, "right": 0.9}
SCENARIOS: dict[str, tuple[dict[str, float], str]] = {
    "good": ({"seconds": 0.004}, "promoted"),
    "slower": ({"seconds": 0.010}, "rolled_back"),
    "failing": ({"failing": 0.05}, "rolled_back"),
    "wrong": ({"right": 0.8}, "rolled_back"),
}
SPEC = {"server": {"timeout": "10s", "maxBatchSize": 1}, "scaling": {"minReplicas": 1}}
STEPS = [20, 50, 100]
CONNECTIONS = 24
KEEP_ALIVE_S = 3.0


class Load:
    """Requests at a rate, each answered one followed by feedback on it."""

    def __init__(self, port: int, model: str, rate: float) -> None:
        self.port, self.model, self.rate = port, model, rate
        self.sent = 0
        self.answers: Counter[tuple[str, int, str]] = Counter()
        self.told: list[dict[str, Any]] = []
        self.taken = 0
        self._draw = random.Random(7)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._send(place)) for place in range(CONNECTIONS)]
        self._tasks.append(asyncio.create_task(self._tell()))

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _send(self, place: int) -> None:
        streams, used_at = None, 0.0
        due = time.monotonic() + place / self.rate
        while not self._stopping:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + CONNECTIONS / self.rate, time.monotonic() - 1)
            truth, u = self._draw.randrange(2), self._draw.random()
            self.sent += 1
            try:
                if streams is not None and time.monotonic() - used_at > KEEP_ALIVE_S:
                    streams[1].close()  # the gateway may be about to, which is nobody's failure
                    streams = None
                streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                used_at = time.monotonic()  # not when the answer is read, which may be later than it came
                status, headers, body = await ask(streams, f"/models/{self.model}/predict", [[truth, u]])
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.answers["", 0, type(error).__name__] += 1
                streams = None
                continue
            if headers.get("connection") == "close":
                streams[1].close()
                streams = None
            code = "" if status == 200 else str(body.get("error", {}).get("code"))
            self.answers[headers.get("x-headway-version", ""), status, code] += 1
            if status == 200:
                right = body["predictions"][0] == truth
                self.told.append({"request_id": headers["x-request-id"], "outcome": right})
        if streams is not None:
            streams[1].close()

    async def _tell(self) -> None:
        while not self._stopping:
            await asyncio.sleep(0.5)
            batch, self.told = self.told, []
            if batch:
                streams = await asyncio.open_connection("127.0.0.1", self.port)
                status, _, body = await ask(streams, f"/models/{self.model}/feedback", batch)
                streams[1].close()
                if status == 200:
                    self.taken += body["recorded"]
                else:
                    self.answers["feedback", status, str(body)] += 1

    def failed(self) -> dict[str, int]:
        """Everything but answers and the failures that are the model's own."""
        return {
            f"{version or '-'} {status} {code}": count
            for (version, status, code), count in self.answers.items()
            if status != 200 and code != "model_failed"
        }


async def ask(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, value: object
) -> tuple[int, dict[str, str], Any]:
    """One POST on a connection that is kept."""
    reader, writer = streams
    body = json.dumps(value).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines[1:] if line)}
    answered = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers, json.loads(answered)


async def scenario(at: Installation, name: str, args: argparse.Namespace) -> bool:
    """Whether it ended as it should."""
    changed, wanted = SCENARIOS[name]
    client = at.client()
    first = write_model(at.home.parent / name / "v1", name, MODEL.format(note="v1", **PLAIN), SPEC)
    second = write_model(at.home.parent / name / "v2", name, MODEL.format(note="v2", **{**PLAIN, **changed}), SPEC)
    await asyncio.to_thread(client.deploy, first)
    load = Load(at.data_port, name, args.rate)
    load.start()
    margins = MarginsBody(latency=args.latency_margin, errors=0.01, outcome=0.06)
    rules = TrialBody(steps=STEPS, at_least_s=args.at_least, at_most_s=args.at_most, margins=margins)
    began = time.monotonic()
    before = client.info().gateway_pid
    await asyncio.to_thread(client.deploy, second, canary=STEPS[0], auto=rules)
    killed = not (args.kill and name == "good")
    shares: list[int] = []
    while True:
        await asyncio.sleep(0.5)
        with contextlib.suppress(Exception):  # while it is killed
            trial = (await asyncio.to_thread(at.client().get, name)).trial
            assert trial is not None
            if trial.share not in shares:
                shares.append(trial.share)
                print(f"  {time.monotonic() - began:6.1f} s  {name}: {trial.share} %", flush=True)
                if not killed and len(shares) == 2:
                    killed = True
                    await asyncio.to_thread(at.kill)
                    await asyncio.sleep(2)
                    await asyncio.to_thread(at.up)
                    print(f"  {time.monotonic() - began:6.1f} s  control plane killed and started again", flush=True)
            if trial.ended_at is not None:
                break
        if time.monotonic() - began > args.patience:
            print(f"  {name}: no end within {args.patience:g} s")
            break
    took_s = time.monotonic() - began
    await asyncio.sleep(2)
    await load.stop()
    events = [event for event in at.client().events(model=name) if event.type.startswith("trial_")]
    last = events[-1].data
    by_version = Counter[str]()
    for (version, _, _), count in load.answers.items():
        by_version[version] += count
    failed = load.failed()
    good = last.get("state") == wanted and not failed
    print(
        f"{name}: {last.get('state')} after {took_s:.0f} s at {'/'.join(map(str, shares))} %: {last.get('reason')}\n"
        f"  {load.sent} requests, {dict(by_version)}, {load.taken} pieces of feedback\n"
        f"  failed, but by the version itself: {failed or 0}\n"
        f"  events: {', '.join(event.type for event in events)}; gateway {before} -> {at.client().info().gateway_pid}",
        flush=True,
    )
    if not good and last.get("comparison"):
        print(json.dumps(last["comparison"], indent=1))
    await asyncio.to_thread(at.client().delete, name)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=80.0)
    parser.add_argument("--at-least", type=float, default=5.0)
    parser.add_argument("--at-most", type=float, default=600.0)
    parser.add_argument("--latency-margin", type=float, default=0.3)
    parser.add_argument("--patience", type=float, default=600.0)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--only", choices=SCENARIOS)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="headway-auto-canary-"))
    home = folder / "home"
    home.mkdir()
    at = Installation(home, None)
    try:
        at.up()
        results = [asyncio.run(scenario(at, name, args)) for name in ([args.only] if args.only else SCENARIOS)]
    finally:
        at.down()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
