"""Celery on Redis: ``celery_peer.py URL worker`` or ``URL submit|pickup N``."""

from __future__ import annotations

import json
import sys
import time

from celery import Celery
from redis import Redis

URL = sys.argv[1]
RESULTS = URL.rsplit("/", 1)[0] + "/1"
app = Celery("celery_peer", broker=URL, backend=RESULTS)
app.conf.update(
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    task_acks_late=True,  # as safe as it gets: a job of a worker that died is run again
    worker_prefetch_multiplier=4,
)


@app.task(name="no_op")
def no_op(number: int) -> float:
    """When it was begun."""
    return time.time()


def main(what: str, count: int = 0) -> None:
    if what == "worker":
        app.worker_main(["worker", "--concurrency", "1", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])
    elif what == "submit":
        results = Redis.from_url(RESULTS)
        before = results.dbsize()
        began = time.perf_counter()
        for number in range(count):
            no_op.delay(number)
        submitted = time.perf_counter()
        while results.dbsize() < before + count:
            time.sleep(0.005)
        print(json.dumps({"submit_s": submitted - began, "total_s": time.perf_counter() - began}))
    elif what == "pickup":
        waits = []
        for number in range(count):
            time.sleep(0.05)
            at = time.time()
            waits.append(1000 * (no_op.delay(number).get(interval=0.002) - at))
        print(json.dumps({"pickup_ms": waits}))


if __name__ == "__main__":
    main(sys.argv[2], *map(int, sys.argv[3:]))
