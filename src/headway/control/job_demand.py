"""How many jobs ask for workers of each version. Pure.

Jobs that are pinned ask for their own version, whatever its state. Those that follow production are spread over the
live split as its weights say, and one that runs counts for the version that runs it, also after that has left the
split: its worker must not look idle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from headway.domain.jobs import JobCount
from headway.domain.routing_table import Arm


def demand_of(counts: Sequence[JobCount], ran: Mapping[str, int], live: Sequence[Arm]) -> dict[str, int]:
    """Jobs that are due or run, by version; ``counts`` are those of one model.

    ``ran``: running jobs that follow production, by version.
    """
    found = Counter(ran)
    for count in counts:
        if count.version is not None:
            found[count.version] += count.queued + count.running
        else:
            found.update(spread(count.queued, live))
    return {version: jobs for version, jobs in found.items() if jobs}


def spread(jobs: int, live: Sequence[Arm]) -> dict[str, int]:
    """Whole jobs by the weights of the split; what is left over goes to the largest remainders, then weights."""
    shares = {arm.version: divmod(jobs * arm.weight, 100) for arm in live if arm.weight > 0}
    left = jobs - sum(whole for whole, _ in shares.values()) if shares else 0
    weights = {arm.version: arm.weight for arm in live}
    order = sorted(shares, key=lambda version: (-shares[version][1], -weights[version], version))
    return {version: shares[version][0] + (version in order[:left]) for version in shares}
