"""The table of documents that are rendered in tests, each with the objects that they come to (``tests/golden/kube``).

``HEADWAY_UPDATE_GOLDEN=1`` writes what is rendered now: look at the difference before it is committed.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from headway.cli.kube_objects import yaml_stream
from headway.cluster.refusals import admitted
from headway.cluster.render import render_documents
from headway.domain.spec_document import read_as

FOLDER = Path(__file__).parents[2] / "golden" / "kube"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
UPDATE = os.environ.get("HEADWAY_UPDATE_GOLDEN") == "1"


def documents(case: str) -> list[Path]:
    """The documents of a case, in the order in which they are applied."""
    return sorted(FOLDER.joinpath(case).glob("[0-9].yaml"))


@functools.cache
def rendered(case: str) -> list[dict[str, Any]]:
    """The objects of a case."""
    return render_documents(
        [read_as(admitted, path.read_text(encoding="utf-8"), path.name) for path in documents(case)], None
    )


def golden(case: str) -> Path:
    """Where the objects of a case are kept."""
    return FOLDER / f"{case}.yaml"


def expected(case: str) -> str:
    """What was reviewed last; updated first, where that was asked for."""
    if UPDATE:
        golden(case).write_text(yaml_stream(rendered(case)), encoding="utf-8")
    return golden(case).read_text(encoding="utf-8")


def every_object() -> list[Any]:
    """Each object of each case, with a readable name."""
    return [(f"{case}: {one['kind']} {one['metadata']['name']}", one) for case in CASES for one in rendered(case)]
