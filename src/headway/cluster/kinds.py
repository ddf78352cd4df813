"""The kinds of objects that documents come to, as the API server serves them."""

from __future__ import annotations

from typing import Final

from headway.cluster.names import Object
from headway.domain.cluster_objects import DEPLOYMENT, Kind

MODEL_DEPLOYMENT: Final = Kind("headway.dev/v1alpha1", "ModelDeployment", "modeldeployments")
SCALING_POLICY: Final = Kind("headway.dev/v1alpha1", "ScalingPolicy", "scalingpolicies")
SCALERS: Final = (
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications"),
    Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
)
OWNED: Final = (
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    DEPLOYMENT,
    Kind("v1", "Service", "services"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    *SCALERS,
    Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    Kind("networking.k8s.io/v1", "Ingress", "ingresses"),
    Kind("traefik.io/v1alpha1", "Middleware", "middlewares"),
    Kind("traefik.io/v1alpha1", "TraefikService", "traefikservices"),
    Kind("traefik.io/v1alpha1", "IngressRoute", "ingressroutes"),
)
"""All that a model may own; a policy owns :data:`SCALERS`."""
_BY_NAME: Final = {kind.kind: kind for kind in OWNED}


def kind_of(item: Object) -> Kind:
    """The kind of an object that was rendered."""
    return _BY_NAME[item["kind"]]
