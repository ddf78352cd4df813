"""ScalingLoan: how a model on a cluster is scaled, borrowed for a load test and given back.

What is borrowed stands in an annotation of the resource, written with the first change and taken away with the last.
So a test that was killed, which could give nothing back, leaves how the model was scaled to the next one, and of two
tests at a time the second is refused. Who changes the scaling meanwhile has the last word: theirs stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.cluster.changes import Loan, described_in, loan_of, with_scaling
from headway.cluster.load_objects import JOB
from headway.cluster.names import Object
from headway.cluster.standing import Standing
from headway.control.cluster_models import ClusterModels
from headway.domain.cluster_objects import Name
from headway.domain.errors import Conflict
from headway.domain.scaling_document import parse_scaling

Policy = Mapping[str, Any]


class ScalingLoan:
    """Of ``model``, by the load test whose objects are called ``run``."""

    def __init__(self, models: ClusterModels, model: str, run: str) -> None:
        self.models = models
        self.model = model
        self._run = run
        self._asked: list[Policy] = []
        self._held = False
        """Whether the API server has taken the annotation for sure."""
        self._abandoned: str | None = None

    async def check(self, policies: Sequence[Policy]) -> str | None:
        """Raises what any of ``policies`` would be refused with, and ``Conflict`` while another test scales the model.

        What there is to know, in words: that a test before this one has not given back what it had borrowed.
        """
        standing = await self.models.get(self.model)
        loan = loan_of(standing.resource)
        if loan is not None and loan.run != self._run:
            if await self._runs(loan.run):
                raise Conflict(
                    f"the load test {loan.run} changes how {self.model} is scaled",
                    hint=f"wait for it; when it was killed: kubectl delete job {loan.run}, and try again",
                )
            self._abandoned = loan.run
        # What is to be put back is checked like what is asked for: nothing is borrowed that cannot be given back.
        before = standing.resource["spec"].get("scaling") if loan is None else loan.before
        for stated in (before, *map(_stated, policies)):
            described_in(with_scaling(standing.resource, stated, None), standing.kept)
        if self._abandoned is None:
            return None
        return f"{self._abandoned} was killed and left {self.model} scaled as it needed it; what was before is put back"

    async def _runs(self, run: str) -> bool:
        """Whether another test is not over yet. One that is gives back what it has, if it still can."""
        job = await self.models.cluster.read(JOB, Name(self.models.namespace, run))
        over = {"Complete", "Failed"}
        conditions = ((job or {}).get("status") or {}).get("conditions") or ()
        return job is not None and not any(one["type"] in over and one["status"] == "True" for one in conditions)

    async def set(self, policy: Policy) -> None:
        """Scale so from now on. Raises ``Conflict`` when somebody else has changed it since the last time."""
        stated = _stated(policy)

        def changed(standing: Standing) -> Object:
            resource = standing.resource
            current, loan = resource["spec"].get("scaling"), loan_of(resource)
            if loan is None or loan.run != self._run:
                if self._held or (loan is not None and loan.run != self._abandoned):
                    raise _theirs(self.model)
                loan = Loan(self._run, current if loan is None else loan.before)
            elif current not in self._asked:
                raise _theirs(self.model)
            return with_scaling(resource, stated, loan)

        # Noted before it is written: an answer that is lost does not make it somebody else's.
        asked, self._asked = self._asked, [*self._asked, stated]
        try:
            await self.models.rescale(self.model, changed)
        except Conflict:
            self._asked = asked
            raise
        self._held = True

    async def give_back(self) -> str | None:
        """Scale as before; why not, in words, where somebody else has changed it meanwhile. Nothing to do: nothing."""
        if not self._asked:
            return None
        said: list[str | None] = [None]

        def changed(standing: Standing) -> Object:
            resource = standing.resource
            current, loan = resource["spec"].get("scaling"), loan_of(resource)
            said[0] = None
            if loan is None or loan.run != self._run:
                said[0] = _LEFT if self._held else None
                return dict(resource)
            if current not in self._asked:
                said[0] = _LEFT
                return with_scaling(resource, current, None)
            return with_scaling(resource, loan.before, None)

        await self.models.rescale(self.model, changed)
        self._asked, self._held = [], False
        return said[0]


_LEFT = "somebody else has changed meanwhile how the model is scaled: it was left so"


def _stated(policy: Policy) -> dict[str, Any]:
    """As a document states it: what it leaves open is left out, which is what the API server keeps."""
    found: dict[str, Any] = parse_scaling(policy).model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude_none=True
    )
    return found


def _theirs(model: str) -> Conflict:
    return Conflict(f"somebody else has changed meanwhile how {model} is scaled", hint="their change is left as it is")
