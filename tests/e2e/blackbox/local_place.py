"""The laptop: a Headway of its own in a scratch folder, with the real HAProxy."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import psutil

from tests.e2e.blackbox.place import Call, caller_of, http_client, status
from tests.installation import Installation, Outcome
from tests.waiting import PATIENCE_S

IMAGE = "registry.example/times:1"
"""Of no meaning here; the document is the same everywhere."""


class LocalPlace:
    """A :class:`tests.e2e.blackbox.place.Place`."""

    name = "local"
    patience_s = PATIENCE_S
    answers = True

    def __init__(self, installation: Installation, until_the_end: ExitStack) -> None:
        self._installation = installation
        self._until_the_end = until_the_end
        self.scratch = installation.scratch

    def needs(self, what: str) -> None:
        """It has everything."""

    def run(self, *args: str) -> Outcome:
        return self._installation.run(*args)

    def caller(self, model: str, version: str | None = None) -> Call:
        # A connection of its own. One from before a new model's deploy belongs to a HAProxy that goes, and gets one
        # more answer from it, by the routes from before.
        http = self._until_the_end.enter_context(http_client(base_url=self._installation.data_url))
        return caller_of(http, f"/models/{model}" + (f"/versions/{version}" if version else ""))

    def lives(self, model: str) -> set[str]:
        return {str(one["pid"]) for one in status(self, model)["replica_list"]}

    def kill(self, model: str) -> str:
        victim = min(self.lives(model))
        self._installation.kill(psutil.Process(int(victim)))
        return victim

    def stop_control(self) -> None:
        pid = self._installation.ok("info", "-o", "json").json()["pid"]
        self._installation.kill(psutil.Process(pid))

    def start_control(self) -> None:
        self._installation.up()

    def kubernetes(self) -> dict[str, Any]:
        return {"image": IMAGE}
