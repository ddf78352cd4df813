"""Routing: from deployments and replicas to the table a gateway applies. Pure.

``split`` has the arithmetic of traffic shares, ``table`` renders the whole routing table.
"""

from headway.domain.routing_table import bucket_plan
from headway.routing.split import check_split, with_canary
from headway.routing.table import render

__all__ = ["bucket_plan", "check_split", "render", "with_canary"]
