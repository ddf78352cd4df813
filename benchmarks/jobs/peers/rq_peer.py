"""RQ on Redis: ``rq_peer.py URL worker|simple-worker`` or ``URL submit|pickup N``."""

from __future__ import annotations

import json
import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker, Worker
from rq.registry import FinishedJobRegistry

NO_OP = "rq_peer.no_op"  # the worker is to import it by this name, not from __main__


def no_op(number: int) -> float:
    """When it was begun."""
    return time.time()


def main(url: str, what: str, count: int = 0) -> None:
    connection = Redis.from_url(url)
    queue = Queue("jobs", connection=connection)
    if what == "worker":
        Worker(["jobs"], connection=connection).work(logging_level="ERROR")
    elif what == "simple-worker":
        SimpleWorker(["jobs"], connection=connection).work(logging_level="ERROR")
    elif what == "submit":
        finished = FinishedJobRegistry("jobs", connection=connection)
        before = finished.get_job_count(cleanup=False)
        began = time.perf_counter()
        for number in range(count):
            queue.enqueue(NO_OP, number, result_ttl=3600)
        submitted = time.perf_counter()
        while finished.get_job_count(cleanup=False) < before + count:
            time.sleep(0.005)
        print(json.dumps({"submit_s": submitted - began, "total_s": time.perf_counter() - began}))
    elif what == "pickup":
        waits = []
        for number in range(count):
            time.sleep(0.05)
            at = time.time()
            job = queue.enqueue(NO_OP, number, result_ttl=3600)
            while job.get_status() != "finished":
                time.sleep(0.002)
            waits.append(1000 * (float(job.return_value() or 0) - at))
        print(json.dumps({"pickup_ms": waits}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
