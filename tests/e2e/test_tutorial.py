"""The tutorial, from its first command to its last, exactly as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.check_docs import ROOT
from tests.docs.blocks import blocks, printed
from tests.installation import Installation

TUTORIAL = ROOT / "docs" / "tutorial" / "first-model.md"
TITLE = re.compile(r"^ *```python title=\"([^\"]+)\"")


def title(page: Path, line: int) -> str:
    """The file that the block starting at ``line`` (its first line of code) shows."""
    fence = page.read_text(encoding="utf-8").splitlines()[line - 2]
    found = TITLE.match(fence)
    assert found, f"{page.name}:{line - 1}: a Python block of the tutorial names its file"
    return found[1]


def comparable(text: str) -> list[str]:
    """Lines without what differs from run to run: instants, digests, counts, column widths."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "INSTANT", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"^ +\d+ ", "COUNT ", text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.needs_network
@pytest.mark.timeout(900)
def test_the_tutorial_works_as_printed(
    installation: Installation, require_service: Callable[[str, object], None], scratch: Path
) -> None:
    require_service("curl", shutil.which("curl"))
    desk = scratch / "desk"
    desk.mkdir(exist_ok=True)
    env = {
        **installation.env,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    shown: dict[str, str] = {}
    for block in blocks("python", "console", of=[TUTORIAL]):
        if block.note == "not run":
            continue
        if block.language == "python":
            (desk / title(TUTORIAL, block.line)).write_text(block.code)
            continue
        for command, expected in printed(block).items():
            # The installation has ports of its own; the printed ones are the defaults.
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.replace(":8420", f":{installation.data_port}")],
                cwd=desk,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            what = f"{block}: {command}\n{done.stdout}\n{done.stderr}"
            assert (done.returncode != 0) == (block.note == "fails"), what
            assert "Traceback" not in done.stderr, what
            shown[command] = done.stdout + done.stderr
            text = shown[command].replace(str(installation.data_port), "8420")
            got = comparable(text.replace(str(installation.control_port), "8421"))
            missing = [line for line in comparable("\n".join(expected)) if line not in got]
            assert not missing, f"{what}\nthe page shows, the run did not: {missing}"

    assert "setosa" in shown["headway predict iris -d '[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]'"]
    (counted,) = (text for command, text in shown.items() if command.startswith("for i in"))
    assert "v1" in counted, counted
    # The rows asked again at the end: after the rollback, and beside a broken version, v1 answers.
    assert "probability" not in shown["headway predict iris -d '[[6.7, 3.0, 5.2, 2.3]]'"]
    assert "probability" in shown["headway predict iris --version v2 -d '[[6.7, 3.0, 5.2, 2.3]]'"]
    (failed,) = (text for text in [shown["headway deploy iris"]] if "not today" in text)
    assert "model.py:1" in failed
