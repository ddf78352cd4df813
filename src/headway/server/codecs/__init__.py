"""Wire formats: each turns a request into :class:`~headway.server.inputs.Inputs`, and what the model returned
into a response.

A codec knows one format and nothing of queues, batches or threads.
"""

from __future__ import annotations

from typing import Any, Protocol

from headway.server.http import Request, Response
from headway.server.inputs import Inputs


class Codec(Protocol):
    """One wire format, for one model."""

    wants_arrays: bool
    """Whether results should come as the model made them; else arrays come as lists, which is cheaper in batches."""

    def decode(self, request: Request) -> Inputs:
        """The request's rows. Raises ``InvalidRequest`` or ``UnsupportedMediaType``."""
        ...

    def encode(self, inputs: Inputs, result: Any) -> Response:
        """The answer for what the model returned for ``inputs``. Raises ``ModelFailed`` or ``InvalidRequest``.

        ``inputs.context`` is what ``decode`` left there. May run on the worker's thread.
        """
        ...
