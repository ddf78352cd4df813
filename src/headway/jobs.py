"""What a model's code may say and ask while it carries out a job. Import it in ``model.py``::

    from headway import jobs

    class Report:
        def predict(self, X):
            for done, row in enumerate(X, start=1):
                if jobs.canceled():
                    return None
                ...
                jobs.progress(done / len(X), f"row {done}")

Outside of a job, in an ordinary request or a notebook, all of it does nothing and may stay where it is. It may be
called from any thread of the model's. A model that imports this module gets one job at a time; others may get the rows
of several short jobs in one call.
"""

from __future__ import annotations

from math import isnan

from headway.domain.errors import Retry
from headway.server import job_context
from headway.server.failures import well_formed

__all__ = ["Retry", "canceled", "current", "progress"]

MOST_NOTE_CHARS = 500


def progress(fraction: float | None, note: str = "") -> None:
    """Say how far the job is: ``fraction`` from 0 to 1 (None: not known), and a few words.

    Call it as often as you like: what is told last reaches whoever asks about the job, at most twice a second. Values
    beyond 0 and 1 count as these. Raises ``ValueError`` for NaN and ``TypeError`` for what is no number.
    """
    told = None
    if fraction is not None:
        told = float(fraction)
        if isnan(told):
            raise ValueError("the fraction is not a number")
        told = min(1.0, max(0.0, told))
    call = job_context.present()
    if call is not None:
        call.tell(told, well_formed(str(note)[:MOST_NOTE_CHARS]))


def canceled() -> bool:
    """Whether nobody wants the result any more: return soon, whatever you return is thrown away.

    A few seconds after it has become true the worker's process ends, whether ``predict`` has returned or not.
    """
    call = job_context.present()
    return call is not None and call.canceled


def current() -> str | None:
    """The id of the job that is carried out; None outside of a job."""
    call = job_context.present()
    return call.job_ids[0] if call is not None and len(call.job_ids) == 1 else None
