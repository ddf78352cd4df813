"""The gateway on one machine: HAProxy, started, watched and told what to route."""

from headway.adapters.haproxy.gateway import HaproxyGateway

__all__ = ["HaproxyGateway"]
