"""Ray Serve: one replica, ``serve.batch`` where the model gains by it, its own HAProxy in front."""
# mypy: ignore-errors

import json
import os
import signal

import joblib
import numpy
import ray
from ray import serve
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class One:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    async def __call__(self, request):
        rows = numpy.asarray(json.loads(await request.body()))
        return Response(json.dumps({"predictions": self.model.predict(rows).tolist()}), media_type="application/json")


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Batched:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, rows):
        return self.model.predict(numpy.stack(rows)).tolist()

    async def __call__(self, request):
        [row] = json.loads(await request.body())
        answer = {"predictions": [await self.predict(numpy.asarray(row))]}
        return Response(json.dumps(answer), media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=os.environ["BENCH_FOLDER"], configure_logging=True)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
        logging_config={"enable_access_log": False},
    )
    deployment = Batched if os.environ["BENCH_BATCH"] == "1" else One
    serve.run(deployment.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
