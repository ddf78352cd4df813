"""LitServe: one worker, its own batching where the model gains by it."""
# mypy: ignore-errors

import os

import joblib
import litserve
import numpy


class Iris(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request):
        return numpy.asarray(request["row"])

    def encode_response(self, output):
        return {"prediction": int(output)}


class One(Iris):
    def predict(self, row):
        return self.model.predict(row[None, :])[0]


class Batched(Iris):
    def batch(self, inputs):
        return numpy.stack(inputs)

    def predict(self, rows):
        return self.model.predict(rows)

    def unbatch(self, output):
        return list(output)


if __name__ == "__main__":
    api = Batched(max_batch_size=64, batch_timeout=0.002) if os.environ["BENCH_BATCH"] == "1" else One()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", generate_client_file=False)
