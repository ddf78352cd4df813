"""The last plan of a model, as it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headway.domain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView
    from headway.client import Client

FORMAT: Final = 1


def last(client: Client, name: str, where: str, requests: str = "") -> PlanView:
    """``requests``: as would be sent now, since others make it stale; empty: not looked at.

    Raises ``NotFound`` where there is none, ``InvalidInput`` at ``where`` for one that another release wrote.
    """
    page = client.plans(name, requests=requests)
    if not page.plans:
        raise NotFound(
            f"there is no plan for {name}", where=where, hint=f"headway plan {name} --sla 'p95<1s' makes one"
        )
    found = page.plans[0]
    if (written := found.document.get("format")) != FORMAT:
        told = f"plan {found.number} of {name} is of format {written}, and this release reads {FORMAT}"
        raise InvalidInput(told, where=where, hint="measure again")
    return found
