"""The course of a plan: what to measure next, after all that was measured, until there is enough to conclude from.

Three stretches, one after the other:

1. *Search*: a user alone, then at 1, 2, … replicas the largest load that keeps the promise.
2. *Try*: a load at a number of replicas that was not measured, foretold first. What came out tells how far off the
   plan is, then it joins the points.
3. *Settle*: the load that was asked about, at the number of replicas on which the answer hangs.

It measures nothing itself. Whoever drives it asks for what is :meth:`Course.wanted`, measures that, and says what was
:meth:`Course.found`, or that it could not be measured. So a real model and a synthetic service of known law
(benchmarks/capacity_truth.py) go through the very same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from headway.planning.beliefs import Evidence
from headway.planning.choice import Errors, Model, choose
from headway.planning.forecast import Expected, Forecast
from headway.planning.measured import Point
from headway.planning.need import Need, decisive
from headway.planning.plan import Question, Tried, ceiling_of, conclude, document, needed, to_try
from headway.planning.search import Search, Wanted

MOST_SAMPLES: Final = 4000
"""Times of a user alone that the law is made of: of more, every so manyth, and fewer than twice as many."""


class Course:
    """One plan's; ``wanted`` and then ``found`` or ``refused``, in turns."""

    def __init__(self, question: Question, seed: int) -> None:
        self.question = question
        self.search = Search(question.promise, question.most_failed, question.like, question.measured)
        self.tried: Tried | None = None
        self.settled: list[Tried] = []
        self.need: Need | None = None
        self._seed = seed
        self._unloaded: list[float] = []
        self._forecast: Forecast | None = None
        self._fitted: tuple[Model, Errors] | None = None
        """None: points came since."""
        self._foretold: Expected | None = None
        """Of the load that is being measured."""
        self._into: Callable[[Tried], None] | None = None
        """What becomes of it."""
        self._stretches = [self._try, self._settle]

    @property
    def searching(self) -> bool:
        """Whether :meth:`wanted` is answered at once; later it fits and simulates for seconds."""
        return self.search.wanted() is not None

    def wanted(self) -> Wanted | None:
        """The next measurement; None when there is enough, or nothing can be planned (:meth:`Search.hopeless`)."""
        if (wanted := self.search.wanted()) is not None:
            return wanted
        if self.search.hopeless():
            return None
        while self._stretches:
            if (wanted := self._stretches[0]()) is not None:
                return wanted
            self._stretches.pop(0)
        return None

    def found(self, point: Point, unloaded_s: Sequence[float] = ()) -> Tried | None:
        """What was measured; ``unloaded_s``: times of a user alone. Gives how it had been foretold, if it had."""
        self._unloaded += unloaded_s
        tried = None
        if self._foretold is not None and self._into is not None:
            tried = Tried(self._foretold, point)
            self._into(tried)
        self._foretold = self._into = self._fitted = None
        self.search.found(point)
        return tried

    def refused(self) -> bool:
        """What is wanted cannot be measured here. Whether the plan can do without it: not during the search."""
        if self._into is None:
            return False
        self._foretold = self._into = None
        self._stretches.pop(0)
        return True

    def document(self) -> dict[str, Any]:
        """The plan, when nothing more is wanted."""
        model, errors = self._model()
        conclusion = conclude(self.question, self.search, model, errors, self.tried, self.need)
        return document(self.question, self.search, conclusion, model, self.tried, self.settled)

    @property
    def model(self) -> Model:
        """Fitted to all points."""
        return self._model()[0]

    def _model(self) -> tuple[Model, Errors]:
        if self._fitted is None:
            evidence = Evidence(self.search.points, self.search.promise, self._seed)
            step = max(1, len(self._unloaded) // MOST_SAMPLES)
            self._forecast = Forecast(evidence, np.array(self._unloaded[::step]), self._forecast)
            self._fitted = choose(self._forecast)
        return self._fitted

    def _ask(self, foretold: Expected, into: Callable[[Tried], None], why: str) -> Wanted:
        self._foretold, self._into = foretold, into
        return Wanted(foretold.replicas, foretold.load, why)

    def _try(self) -> Wanted | None:
        if self.tried is not None:
            return None
        ceiling = ceiling_of(self.search.points, self.question.each, self.question.cpu_share)
        held = to_try(self.model, self.question, ceiling)
        if held is None:
            return None
        (foretold,) = self.model.at([held])
        why = f"a load that was not measured, predicted {foretold.value_s * 1000:.1f} ms"
        return self._ask(foretold, self._keep_tried, why)

    def _keep_tried(self, tried: Tried) -> None:
        self.tried = tried

    def _settle(self) -> Wanted | None:
        self.need = need = needed(self.question, self.search, self.model)
        if need is None or need.doubt is None or decisive(need, self.search, self.question.most_replicas) is None:
            return None
        return self._ask(need.doubt, self.settled.append, "the answer hangs on it")
