"""LoadFailure: what went wrong with a template's load is what would have gone wrong with the replica's own.

A replica that waited for the load has therefore crashed, for the reason, with the report and the log of the template.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass

from headway.adapters.local import failures
from headway.adapters.local.failures import Crash
from headway.adapters.local.process import Exit
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord

LOG_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """One load of a template that did not succeed."""

    folder: ReplicaFolder
    """The template's."""
    exit: Exit
    used_bytes: int | None = None
    """It was killed at this use of memory."""
    late: bool = False
    """It was killed because it took longer than a startup probe allows."""

    def crash_of(self, folder: ReplicaFolder, record: ReplicaRecord) -> Crash:
        """The same of the replica of ``record``, in whose ``folder`` the files are from now on."""
        for source, target in ((self.folder.failure, folder.failure), (self.folder.stack, folder.stack)):
            with contextlib.suppress(OSError):
                shutil.copyfile(source, target)
        with contextlib.suppress(OSError), self.folder.log.open("rb") as printed, folder.log.open("ab") as log:
            printed.seek(max(0, self.folder.log.stat().st_size - LOG_BYTES))
            log.write(printed.read(LOG_BYTES))
        if self.used_bytes is not None:
            return failures.of_memory(self.used_bytes, folder, record)
        if self.late:
            return failures.of_startup("the model is still being loaded", folder, record)
        return failures.of_exit(self.exit, folder, record, serving=False)
