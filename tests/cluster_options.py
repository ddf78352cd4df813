"""Options of the tests marked ``cluster``: what they may assume of the cluster that KUBECONFIG names.

``make test-cluster ARGS="--cluster-image registry.example.com/times@sha256:…"``. What an option leaves unsaid is not
assumed: tests that need it are skipped by name.
"""

from __future__ import annotations

import pytest

GROUP = "cluster", "tests on a Kubernetes cluster (make test-cluster)"


def add_cluster_options(parser: pytest.Parser) -> None:
    group = parser.getgroup(*GROUP)
    group.addoption(
        "--cluster", action="store_true", help="Run the tests marked cluster. Without it they are left out."
    )
    group.addoption("--cluster-context", metavar="CONTEXT", help="Of the kubeconfig. Default: its current one.")
    group.addoption(
        "--cluster-image",
        metavar="IMAGE",
        help="Holds tests/e2e/blackbox/model, built by headway build, where nodes find it.",
    )
    group.addoption(
        "--cluster-registry",
        metavar="REGISTRY/NAME",
        help="Instead of --cluster-image: build it and push it there; nodes pull it from there.",
    )
    group.addoption("--cluster-base", metavar="BASE", help="Of --cluster-registry: what headway build is to build on.")
    group.addoption(
        "--cluster-url",
        metavar="URL",
        help="Where a gateway of the cluster answers from here. Without it replicas are asked through the API server, "
        "and tests of the traffic split are skipped.",
    )
    group.addoption(
        "--cluster-gateway", metavar="NAMESPACE/NAME", help="Of --cluster-url: the Gateway that routes are attached to."
    )
    group.addoption(
        "--cluster-ingress", metavar="CLASS", help="Of --cluster-url, instead: the class of Traefik's ingress."
    )
    group.addoption(
        "--cluster-operator",
        choices=("process", "installed"),
        default="process",
        help="process: headway operator runs here, with the rights of its service account; installed: it is there.",
    )
    group.addoption(
        "--cluster-pods-reachable",
        action="store_true",
        help="Addresses of pods can be reached from here, so that an operator here can measure them.",
    )
    group.addoption(
        "--cluster-no-answers",
        action="store_true",
        help="Nodes run no containers: pods become ready, but nothing answers.",
    )
    group.addoption(
        "--cluster-patience", metavar="SECONDS", type=float, default=180.0, help="For a rollout. Default: 180."
    )
    group.addoption(
        "--cluster-selector",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="Label of the nodes to use; repeatable.",
    )
    group.addoption(
        "--cluster-toleration",
        metavar="KEY",
        action="append",
        default=[],
        help="Taint of the nodes to tolerate, whatever its value and effect; repeatable.",
    )
