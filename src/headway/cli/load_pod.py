"""What the pods of a load test run: ``python -m headway.cli.load_pod master`` or ``worker``.

Not a command of ``headway``, since nobody types it. The master's standard output is for ``headway kube loadtest`` to
read; its exit code is the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from headway.bootstrap_load_cluster import run_worker, tester_of
from headway.cli import load_run, load_source
from headway.cli.output import print_error
from headway.client.target import TargetClient
from headway.cluster.load_objects import TARGET_TOKEN_VARIABLE, TOKEN_VARIABLE
from headway.control.load_orders import LoadOrder, LoadTeller, order_of
from headway.domain.errors import HeadwayError, InvalidInput
from headway.domain.load_reports import LoadReport
from headway.ports.load_generator import LoadRequest, LoadTarget


def main(arguments: Sequence[str]) -> int:
    """The process; an exit code as ``headway`` has them."""
    parser = argparse.ArgumentParser(prog="headway.cli.load_pod")
    roles = parser.add_subparsers(dest="role", required=True)
    as_master = roles.add_parser("master")
    as_master.add_argument("--order", type=Path, required=True)
    as_master.add_argument("--port", type=int, required=True)
    as_master.add_argument("--replicas", metavar="NAME:PORT", required=True, help="where to ask what they use")
    as_worker = roles.add_parser("worker")
    as_worker.add_argument("place")
    as_worker.add_argument("--patience", type=float, required=True, help="seconds")
    given = parser.parse_args(arguments)
    token = os.environ.get(TOKEN_VARIABLE, "")
    try:
        if not token:
            raise InvalidInput("workers are let in by a token, and there is none", where=TOKEN_VARIABLE)
        if given.role == "worker":
            return run_worker(given.place, token, given.patience)
        return master(given.order, given.port, token, given.replicas)
    except HeadwayError as error:
        print_error(error)
        return error.exit_code


def master(order: Path, port: int, token: str, replicas: str) -> int:
    """Carry the order out and tell of it. Raises what it could not be carried out for, and the verdict."""

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    teller = LoadTeller(write)
    try:
        report = _carried_out(order_of(order.read_bytes()), port, token, replicas, teller)
    except HeadwayError as error:
        teller.error(error)
        raise
    teller.report(report)
    return load_run.judged(report, "the report above")


def _carried_out(order: LoadOrder, port: int, token: str, replicas: str, teller: LoadTeller) -> LoadReport:
    target_token = os.environ.get(TARGET_TOKEN_VARIABLE)
    requests: list[LoadRequest] = []
    if order.locustfile is None:
        with TargetClient(order.url, target_token, timeout_s=order.timeout_s) as client:
            sizes, given = order.sizes or None, None
            if order.data:
                rows = json.loads(order.data)
                requests = load_source.made_of(rows, order.rows, sizes)
                given = None if order.rows != 1 or sizes else lambda: rows
            else:
                requests = load_source.requests(client, order.model, None, None, order.rows, sizes)
            requests = load_source.fitting(client, order.model, None, requests, given, teller.note)
    target = LoadTarget(order.model, order.url, target_token)
    carried = load_run.Order(target, order.shape, requests, order.promises, order.stop_at_breach)
    with tester_of(order, port, token, replicas) as tester:
        return load_run.carry_out(lambda: tester, carried, teller.point)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
