"""One run of wrk (Glozer; the closed-loop generator of Debian's package ``wrk``) against one server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")
MARK = "FIGURES "


class GeneratorFailed(Exception):
    """wrk could not run, or answers went wrong while it ran."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    not_ok: int
    """Answers with a status of 400 or more."""
    broken: int
    """Connections that could not be made, read from or written to."""
    timeouts: int


def parse(output: str) -> Load:
    """The figures in wrk's output. Raises :class:`GeneratorFailed` when there are none."""
    lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if len(lines) != 1:
        raise GeneratorFailed(f"wrk printed no figures: {' '.join(output.split())[-200:]}")
    figures = json.loads(lines[0])
    if figures["requests"] == 0 or figures["duration_us"] == 0:
        raise GeneratorFailed("no request was answered")
    return Load(
        requests=figures["requests"],
        requests_per_s=figures["requests"] / figures["duration_us"] * 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        max_ms=figures["max_us"] / 1e3,
        not_ok=figures["not_ok"],
        broken=figures["broken"],
        timeouts=figures["timeouts"],
    )


def run(url: str, body: bytes, *, connections: int, seconds: float) -> Load:
    """Load ``url`` with POSTs of ``body`` over ``connections`` connections, each sending when it was answered."""
    command = [_wrk(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), "--timeout", "10s"]
    done = subprocess.run(
        [*command, url],
        env={**os.environ, "BENCH_BODY": body.decode()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise GeneratorFailed(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    load = parse(done.stdout)
    if load.not_ok or load.broken:
        raise GeneratorFailed(f"under load {load.not_ok} answers were errors and {load.broken} connections broke")
    return load


def _wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise GeneratorFailed("wrk is missing; it measures: install it (Debian, Ubuntu: sudo apt-get install wrk)")
    return found
