"""Bootstrap of load tests: constructs the generators. Beside ``bootstrap``, since it needs nothing of a control plane.

A load test runs in the process of whoever asks for it, never in the control plane's.
"""

from __future__ import annotations

from headway.adapters.loadgen.generator import HttpLoadGenerator
from headway.adapters.local.clock import SystemClock
from headway.control.load_test import LoadTester
from headway.ports.model_watch import ModelWatch


def load_tester(watch: ModelWatch | None = None, *, timeout_s: float = 30.0) -> LoadTester:
    """With the generator of our own, in this process: open loops, and closed ones with exponential thinking times."""
    return LoadTester(HttpLoadGenerator(timeout_s=timeout_s), SystemClock(), watch)
