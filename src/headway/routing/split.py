"""Traffic splits: whole percents that sum to exactly 100, in the order of the versions' numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from headway.domain.errors import InvalidTraffic
from headway.domain.names import version_number
from headway.domain.routing_table import WEIGHT_TOTAL, Arm


def check_split(weights: Mapping[str, int], known: Collection[str]) -> tuple[Arm, ...]:
    """The split that ``weights`` describes; a weight of 0 keeps a version running without production traffic.

    ``known``: the model's versions. Raises :class:`InvalidTraffic` for an empty split, a version that is not
    known, a weight that is no whole number from 0 to 100, or a sum other than 100.
    """
    if not weights:
        raise InvalidTraffic("the split names no version", where="traffic", hint="for example v1=90 v2=10")
    for version, weight in weights.items():
        if version not in known:
            listed = ", ".join(sorted(known, key=version_number)[-5:]) or "none"
            shown = version if len(version) <= 40 else version[:37] + "..."
            raise InvalidTraffic(f"there is no version {shown!r}", where="traffic", hint=f"versions: {listed}")
        if not 0 <= weight <= WEIGHT_TOTAL:
            raise InvalidTraffic(
                f"{weight!r} is not a weight", where=f"traffic.{version}", hint="whole percents from 0 to 100"
            )
    total = sum(weights.values())
    if total != WEIGHT_TOTAL:
        raise InvalidTraffic(f"the weights sum to {total}, not to 100", where="traffic")
    return _ordered(Arm(version, weight) for version, weight in weights.items())


def with_canary(live: Sequence[Arm], version: str, percent: int) -> tuple[Arm, ...]:
    """``version`` with ``percent``, and the other arms of ``live`` scaled down to the rest, in proportion.

    The rest is shared out by largest remainder (Hamilton's method), so the sum is exactly 100 and no arm is
    off its exact share by a whole percent: 50/50 with a canary of 25 becomes 38/37/25. Raises
    :class:`InvalidTraffic` for a ``percent`` outside 1 to 99 or when no other version takes traffic.
    """
    if not 1 <= percent <= WEIGHT_TOTAL - 1:
        raise InvalidTraffic(f"a canary of {percent} %", where="canary", hint="whole percents from 1 to 99")
    others = _ordered(arm for arm in live if arm.version != version)
    total = sum(arm.weight for arm in others)
    if total == 0:
        raise InvalidTraffic(
            f"no version beside {version} takes traffic, so it cannot be a canary", hint="deploy it without a canary"
        )
    rest = WEIGHT_TOTAL - percent
    shares = {arm.version: divmod(arm.weight * rest, total) for arm in others}
    missing = rest - sum(whole for whole, _ in shares.values())
    # sorted() is stable: of equal remainders the older version gets the odd percent
    lucky = {a.version for a in sorted(others, key=lambda a: -shares[a.version][1])[:missing]}
    scaled = [Arm(a.version, shares[a.version][0] + (a.version in lucky)) for a in others]
    return _ordered([*scaled, Arm(version, percent)])


def _ordered(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    return tuple(sorted(arms, key=lambda arm: version_number(arm.version)))
