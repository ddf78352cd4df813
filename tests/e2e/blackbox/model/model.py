"""The model of the black-box tests. What it does stands in its environment, so that one image holds every version."""

from __future__ import annotations

import os
import time
from typing import Any


class Times:
    """Multiplies rows by FACTOR, after WORK_MS milliseconds; rows that begin with 13 fail.

    BREAK says where all of it fails: ``load``, ``exit`` (in load, without a word) or ``predict``.
    """

    def load(self) -> None:
        self.factor = int(os.environ.get("FACTOR", "2"))
        self.work_s = float(os.environ.get("WORK_MS", "0")) / 1000
        self.broken = os.environ.get("BREAK", "")
        if self.broken == "load":
            raise RuntimeError("the weights are gone")
        if self.broken == "exit":
            os._exit(7)
        print(f"loaded, times {self.factor}", flush=True)

    def predict(self, X: list[list[Any]], features_names: list[str] | None = None) -> list[list[Any]]:  # noqa: N803
        if self.broken == "predict":
            raise RuntimeError("no way to say")
        if X and X[0] and X[0][0] == 13:
            raise ValueError("13 brings bad luck")
        if self.work_s:
            time.sleep(self.work_s)
        return [[self.factor * value for value in row] for row in X]
