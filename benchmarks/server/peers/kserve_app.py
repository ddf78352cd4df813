"""KServe: a custom model in its Python model server, v1 protocol. Its batcher is a sidecar, not in this package."""
# mypy: ignore-errors

import os

import joblib
import kserve
import numpy


class Iris(kserve.Model):
    def load(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])
        self.ready = True
        return self.ready

    def predict(self, payload, headers=None):
        return {"predictions": self.model.predict(numpy.asarray(payload["instances"])).tolist()}


if __name__ == "__main__":
    model = Iris("iris")
    model.load()
    kserve.ModelServer(
        http_port=int(os.environ["BENCH_PORT"]), enable_grpc=False, enable_latency_logging=False, workers=1
    ).start([model])
