"""Where the route of a model answers, as a load from inside the cluster reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.domain.cluster_objects import Kind, Name
from headway.domain.errors import ModelNotFound, Unsupported
from headway.ports.cluster import Cluster

GATEWAY: Final = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
_PORTS: Final = {"HTTP": 80, "HTTPS": 443}


async def route_url(cluster: Cluster, namespace: str, model: str) -> str:
    """The URL of ``model``'s route. ``ModelNotFound``; ``Unsupported`` where the cluster does not tell it."""
    found = await cluster.read(MODEL_DEPLOYMENT, Name(namespace, model))
    if found is None:
        raise ModelNotFound(f"there is no ModelDeployment {model} in the namespace {namespace}")
    route: Mapping[str, Any] = ((found.get("spec") or {}).get("kubernetes") or {}).get("route") or {}
    hosts = [host for host in route.get("hosts") or () if not host.startswith("*")]
    scheme, port, address = "http", 80, ""
    if (ref := route.get("gateway")) is not None:
        gateway = await cluster.read(GATEWAY, Name(ref.get("namespace") or namespace, ref["name"]))
        scheme, port = _listener(gateway or {}, ref.get("sectionName"))
        addresses = ((gateway or {}).get("status") or {}).get("addresses") or ()
        address = next((str(one["value"]) for one in addresses if one.get("value")), "")
    elif (route.get("ingress") or {}).get("tlsSecret"):
        scheme, port = "https", 443
    host = hosts[0] if hosts else address
    if not host:
        raise Unsupported(
            f"the cluster does not tell where the route of {model} answers",
            where="--url",
            hint=f"name it: --url http://HOST/models/{model}, or load one version: --version v1",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}{'' if port == _PORTS[scheme.upper()] else f':{port}'}/models/{model}"


def _listener(gateway: Mapping[str, Any], section: str | None) -> tuple[str, int]:
    """Scheme and port of the listener that a route is attached to: the named one, else the first that speaks HTTP."""
    for one in (gateway.get("spec") or {}).get("listeners") or ():
        if one.get("protocol") in _PORTS and section in (None, one.get("name")):
            return str(one["protocol"]).lower(), int(one["port"])
    return "http", 80
