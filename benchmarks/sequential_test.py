"""The sequential test, tried: false verdicts with a look after every observation, and what finding a difference takes.

Everything is decided by the code that ships (``headway.comparing``), at the share of the error that a figure has in a
whole comparison. One observation of each version, a look, the next one. Exit 1 when more than 5 % of the comparisons of
equal versions ever said better or worse.

    python benchmarks/sequential_test.py [--runs 2000] [--looks 2000] [--plot docs/images/sequential-test.png]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.comparing.bernoulli import apart, evidence_against, interval
from headway.comparing.means import difference_half_width

ALPHA = 0.05
SHARE = ALPHA / 3
"""Of errors, or of an outcome: there are three measures."""
SHARE_OF_QUANTILE = ALPHA / 3 / 3
"""p50, p95 and the mean share that of latency."""
_AT_ONCE = 20
Bools = NDArray[np.bool_]
Draw = np.random.Generator


def counts_differ(base: Bools, version: Bools, alpha: float) -> NDArray[np.int8]:
    """By run and look: 1 where the version's probability is shown to be larger, -1 where smaller, else 0."""
    n = np.arange(1, base.shape[1] + 1)
    one, two = (np.cumsum(heads, axis=1, dtype=np.int64) for heads in (base, version))
    # A few runs at a time, so that what is computed stays near the processor.
    pieces = [(one[at : at + _AT_ONCE], two[at : at + _AT_ONCE]) for at in range(0, len(one), _AT_ONCE)]
    found = np.concatenate([apart((few, n), (others, n), alpha / 2) for few, others in pieces])
    # The other half of alpha: an interval of each. Few pairs of counts occur many times over.
    bounds = []
    for heads in (one, two):
        code, place = np.unique(heads * (len(n) + 1) + n, return_inverse=True)
        low, high = interval(code // (len(n) + 1), code % (len(n) + 1), alpha / 4)
        bounds.append((low[place].reshape(base.shape), high[place].reshape(base.shape)))
    (base_low, base_high), (low, high) = bounds
    found |= (low > base_high) | (high < base_low)
    return np.where(found, np.sign(two - one), 0).astype(np.int8)


def quantiles_differ(
    base: NDArray[Any], version: NDArray[Any], q: float, alpha: float, *, steps: int = 60
) -> NDArray[np.int8]:
    """The same for a quantile: 1 where there is no value, on a grid of 1 %, that may be the quantile of both.

    ``steps``: how far the grid goes to either side of the quantile of all, which has to be far enough for those of the
    first looks. The code that ships looks at all values and not at a grid, so it says a little less.
    """
    runs, looks = base.shape
    n = np.arange(1, looks + 1)[:, None]
    middle = float(np.quantile(np.concatenate([base, version]), q))
    grid = middle * np.exp(np.arange(-steps, steps + 1) * 0.01)
    limit = -math.log(alpha / 2)
    table = np.stack([evidence_against(np.minimum(np.arange(looks + 1), size), size, q) for size in n[:, 0]])
    place = np.arange(looks)[:, None]
    found = np.zeros(base.shape, np.int8)
    for run in range(runs):
        one, two = (np.cumsum(values[run][:, None] <= grid, axis=0) for values in (base, version))
        against = table[place, one] + table[place, two]
        # Fewer values of the version lie below what separates the two: its quantile is the larger one.
        side = np.sign(one - two)[np.arange(looks), against.argmin(axis=1)]
        found[run] = np.where(against.min(axis=1) >= limit, side, 0)
    return found


def means_differ(base: NDArray[Any], version: NDArray[Any], alpha: float) -> NDArray[np.int8]:
    """The same for a mean of any values."""
    n = np.arange(1, base.shape[1] + 1)
    means, variances, skewnesses = [], [], []
    for values in (base, version):
        mean, square, cube = (np.cumsum(values**power, axis=1) / n for power in (1, 2, 3))
        variance = np.maximum(square - mean**2, 0)
        third = cube - 3 * mean * square + 2 * mean**3
        skewnesses.append(np.divide(third, variance**1.5, out=np.zeros(values.shape), where=variance > 1e-12))
        means.append(mean)
        variances.append(variance * n / np.maximum(n - 1, 1))
    half = difference_half_width((n, n), (variances[0], variances[1]), alpha, (skewnesses[0], skewnesses[1]))
    larger = means[1] - means[0]
    return np.where(np.abs(larger) > half, np.sign(larger), 0).astype(np.int8)


def ordinary(base: Bools, version: Bools) -> Bools:
    """What the textbook's test for two proportions says at 5 %, looked at every time."""
    n = np.arange(1, base.shape[1] + 1)
    one, two = np.cumsum(base, axis=1) / n, np.cumsum(version, axis=1) / n
    pooled = (one + two) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(one - two) / np.sqrt(2 * pooled * (1 - pooled) / n)
    return np.nan_to_num(z) > 1.96


def ever(found: NDArray[Any]) -> NDArray[np.float64]:
    """Share of the runs that have said something by each look."""
    said: NDArray[np.float64] = np.maximum.accumulate(found != 0, axis=1).mean(axis=0)
    return said


def drifting(draw: Draw, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Latencies that follow the state of the machine, which both versions meet: an autoregressive process."""
    state = np.zeros(shape[0])
    states = np.empty(shape)
    for look in range(shape[1]):
        state = 0.99 * state + draw.normal(0, 0.1, shape[0])
        states[:, look] = state
    return tuple(np.exp(states + draw.normal(0, 0.3, shape)) for _ in range(2))  # type: ignore[return-value]


def nothing_to_find(draw: Draw, runs: int, looks: int) -> list[tuple[str, NDArray[np.float64]]]:
    """Equal versions: the share of comparisons that ever said otherwise."""
    shape, few = (runs, looks), (max(runs // 4, 1), looks)
    told: list[tuple[str, NDArray[np.float64]]] = []
    by_run = []
    for p in (0.001, 0.01, 0.1, 0.5):
        found = counts_differ(draw.random(shape) < p, draw.random(shape) < p, SHARE)
        told.append((f"errors or outcomes of 0 and 1, p = {p:g}", ever(found)))
        by_run.append(found)
    for q in (0.5, 0.95):
        found = quantiles_differ(draw.lognormal(0, 0.5, few), draw.lognormal(0, 0.5, few), q, SHARE_OF_QUANTILE)
        told.append((f"p{q * 100:.0f} of latency", ever(found)))
        by_run.append(found)
    base, version = drifting(draw, (max(runs // 8, 1), looks))
    found = quantiles_differ(base, version, 0.95, SHARE_OF_QUANTILE, steps=350)
    told.append(("p95, the machine drifts", ever(found)))
    for paid, name in ((1.0, "reward, exponential"), (0.1, "reward, nine of ten are 0")):
        base, version = (draw.exponential(size=shape) * (draw.random(shape) < paid) for _ in range(2))
        told.append((name, ever(means_differ(base, version, SHARE))))
    whole = np.zeros(few, bool)
    for found in (by_run[1], by_run[3], by_run[4], by_run[5]):
        whole |= found[: few[0]] != 0
    told.append(("a whole comparison: p50, p95, errors 1 %, outcome 50 %", ever(whole)))
    return told


def something_to_find(draw: Draw, runs: int, looks: int) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Planted differences: the share that is found by each look, by panel and label."""
    shape = (max(runs // 4, 1), looks)
    few = (max(runs // 10, 1), looks)
    told: list[tuple[str, str, NDArray[np.float64]]] = []

    def worse(found: NDArray[np.int8], sign: int) -> NDArray[np.float64]:
        said: NDArray[np.float64] = np.maximum.accumulate(found == sign, axis=1).mean(axis=0)
        return said

    for p in (0.02, 0.03, 0.05, 0.10):
        found = counts_differ(draw.random(shape) < 0.01, draw.random(shape) < p, SHARE)
        told.append(("errors: 1 % becomes", f"{p * 100:g} %", worse(found, 1)))
    for p in (0.55, 0.5, 0.45, 0.4):
        found = counts_differ(draw.random(shape) < 0.6, draw.random(shape) < p, SHARE)
        told.append(("outcome: 60 % becomes", f"{p * 100:g} %", worse(found, -1)))
    for factor in (1.1, 1.25, 1.5, 2.0):
        latencies = draw.lognormal(0, 0.5, few), factor * draw.lognormal(0, 0.5, few)
        found = quantiles_differ(*latencies, 0.95, SHARE_OF_QUANTILE)
        told.append(("p95 of latency becomes", f"{factor:g} times as long", worse(found, 1)))
    return told


def needed(found: NDArray[np.float64], share: float) -> str:
    """How many observations of each version until so many runs have found it."""
    return f"{int(np.argmax(found >= share)) + 1:,}" if found[-1] >= share else f"more than {len(found):,}"


def plot(
    path: Path,
    naive: NDArray[np.float64],
    nothing: list[tuple[str, NDArray[np.float64]]],
    something: list[tuple[str, str, NDArray[np.float64]]],
) -> None:
    """False verdicts, and power."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from self_healing_plot import GRID, INK, SOFT

    panels = list(dict.fromkeys(panel for panel, _, _ in something))
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    looks = np.arange(1, len(naive) + 1)
    axes[0].plot(looks, 100 * naive, color="#d97b29", label="ordinary test, looked at every time")
    for place, (_, found) in enumerate(nothing):
        axes[0].plot(
            looks, 100 * found, color="#2f6fd0", lw=1, label=None if place else "Headway, nine cases and a whole"
        )
    axes[0].axhline(5, color=SOFT, ls="--", lw=1, label="5 %")
    axes[0].set_title("equal versions: comparisons that ever said otherwise", color=INK, fontsize=10)
    for axis, panel in zip(axes[1:], panels, strict=True):
        for shade, (label, found) in enumerate([(label, found) for of, label, found in something if of == panel]):
            axis.plot(looks, 100 * found, color="#2f6fd0", alpha=0.4 + 0.2 * shade, label=label)
        axis.set_title(f"{panel} …: found", color=INK, fontsize=10)
    for axis in axes:
        axis.set_xlabel("requests of each version", color=SOFT, fontsize=9)
        axis.set_ylabel("% of runs", color=SOFT, fontsize=9)
        axis.set_ylim(0, 102 if axis is not axes[0] else None)
        axis.set_xscale("log")
        axis.set_xlim(10, looks[-1])
        axis.grid(color=GRID)
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--looks", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    draw = np.random.default_rng(args.seed)
    shape = (args.runs, args.looks)
    naive = ever(ordinary(draw.random(shape) < 0.5, draw.random(shape) < 0.5))
    nothing = nothing_to_find(draw, args.runs, args.looks)
    print(f"equal versions, {args.looks:,} requests of each, a look after every one: said better or worse at any look")
    print(f"  {100 * naive[-1]:5.1f} %  ordinary test at 5 %")
    for name, found in nothing:
        print(f"  {100 * found[-1]:5.2f} %  {name}", flush=True)
    something = something_to_find(draw, args.runs, args.looks)
    print("planted differences: requests of each version until half, and until 90 %, of the runs have found them")
    for panel, label, found in something:
        print(f"  {panel} {label}: {needed(found, 0.5)}, {needed(found, 0.9)}", flush=True)
    if args.plot is not None:
        plot(args.plot, naive, nothing, something)
    return int(max(found[-1] for _, found in nothing) > ALPHA)


if __name__ == "__main__":
    sys.exit(main())
