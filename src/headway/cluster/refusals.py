"""What of a valid document Kubernetes cannot honour, each with its place. Nothing is ignored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headway.cluster.engines import engine_problems
from headway.cluster.jobs import job_problems
from headway.domain.errors import Unsupported
from headway.domain.scaling_policy import ScalingPolicy, parse_either
from headway.domain.spec import Model, ModelDeployment

ON = "on Kubernetes"


def admitted(data: object) -> ModelDeployment | ScalingPolicy:
    """A document of either kind from plain data, checked for what a cluster cannot honour."""
    found = parse_either(data)
    if isinstance(found, ScalingPolicy):
        check_policy(found)
    else:
        check_model(found)
    return found


def check_model(document: ModelDeployment) -> None:
    """``Unsupported`` with everything of ``document`` that a cluster cannot honour."""
    _refuse(_of_model(document))


def check_policy(policy: ScalingPolicy) -> None:
    """The same for a policy."""
    spec = policy.spec
    secret, place = spec.trigger_secret, "spec.triggerSecret"
    at = {"where": "spec.scaling", "secret_at": place}
    _refuse(engine_problems(spec.scaling, spec.engine, secret=secret, **at, cpu=None, model=False))


def _of_model(document: ModelDeployment) -> Iterator[tuple[str, str]]:
    spec, kubernetes = document.spec, document.spec.kubernetes
    if kubernetes.image is None:
        yield "spec.kubernetes.image", f"{ON} a version is an image: registry.example.com/iris@sha256:..."
    if spec.model.path != Model().path:
        yield (
            "spec.model.path",
            f"{ON} the model is in the image and no folder is read; headway deploy DIR --push makes an image of one",
        )
    name = document.metadata.name
    if name[0].isdigit():
        yield "metadata.name", f"{ON} it must begin with a letter: Services are called by it"
    if spec.sticky is not None:
        if spec.sticky.header is not None:
            yield "spec.sticky.header", f"no route {ON} keeps callers by a header; with Traefik a cookie does"
        elif kubernetes.route is None or kubernetes.route.ingress is None:
            yield "spec.sticky.cookie", f"{ON} it needs spec.kubernetes.route.ingress (Traefik)"
    if spec.arm is not None:
        yield "spec.arm", f"{ON} the shares of all versions are said together: spec.traffic and spec.shadow"
    if spec.shadow is not None and kubernetes.route is None:
        yield "spec.shadow", f"{ON} it needs spec.kubernetes.route: requests are copied by the gateway"
    if spec.graph is not None:
        yield "spec.graph", f"inference graphs are not carried out {ON} yet"
    if spec.query_log.payloads is not None:
        yield "spec.queryLog.payloads", f"payloads are not kept {ON} yet"
    yield from job_problems(document)
    yield from engine_problems(
        spec.scaling,
        kubernetes.engine,
        secret=kubernetes.trigger_secret,
        where="spec.scaling",
        secret_at="spec.kubernetes.triggerSecret",  # noqa: S106
        cpu=spec.resources.cpu is not None,
    )


def _refuse(found: Iterable[tuple[str, str]]) -> None:
    problems = list(found)
    if not problems:
        return
    where, message = problems[0]
    raise Unsupported(
        "; ".join([message, *(f"{place}: {words}" for place, words in problems[1:])]),
        where=where,
        details={"problems": [{"where": place, "message": words} for place, words in problems]},
    )
