"""BentoML: one worker, adaptive batching where the model gains by it."""
# mypy: ignore-errors

import os

import bentoml
import joblib
import numpy

BATCH = os.environ["BENCH_BATCH"] == "1"


@bentoml.service(workers=1, metrics={"enabled": True}, logging={"access": {"enabled": False}})
class Iris:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    if BATCH:

        @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        def predict(self, rows: numpy.ndarray) -> numpy.ndarray:
            return self.model.predict(rows)

    else:

        @bentoml.api
        def predict(self, rows: numpy.ndarray) -> numpy.ndarray:
            return self.model.predict(rows)
