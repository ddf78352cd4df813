"""Three phases as a data scientist meets them: scaled by hand, scaled by the load, and capacity reached.

One command, ``headway loadtest --stages``, on a model that serves 20 requests a second per replica. By hand it has two
replicas, whatever comes; then a trigger gives it up to four; then more comes than four can serve. With FOLDER, the
report stays there and, where Chromium is installed, a picture of it. Usage: three_phases.py [FOLDER [SECONDS]]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from installation import Installation, write_model

CODE = """
import time

def predict(X: list):
    until = time.thread_time() + 0.003
    while time.thread_time() < until:  # computing
        pass
    time.sleep(0.045)  # waiting for something else
    return [0] * len(X)
"""
SPEC = {"server": {"maxBatchSize": 1, "maxQueue": 100, "timeout": "10s"}}
POLICY = "{minReplicas: 2, maxReplicas: 4, triggers: [{type: concurrency, target: 2}]}"
STAGES = """
stages:
  - {{name: scaled by hand, duration: {seconds}s, rate: "10:45", replicas: 2}}
  - {{name: scaled by the load, duration: {seconds}s, rate: "45:65", scaling: {policy}}}
  - {{name: capacity reached, duration: {seconds}s, rate: "65:95"}}
"""


def main() -> int:
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        home = Path(scratch) / "home"
        home.mkdir()
        model = write_model(Path(scratch) / "model", "phases", CODE, SPEC)
        (model / "sample.json").write_text("[[1]]")
        stages = Path(scratch) / "stages.yaml"
        stages.write_text(STAGES.format(seconds=seconds, policy=POLICY))
        headway = Installation(home, None)
        headway.up()
        try:
            headway.client().deploy(model, name="phases")
            load = [sys.executable, "-m", "headway.cli.main", "loadtest", "phases", "--stages", str(stages)]
            page = folder / "three-phases.html"
            done = subprocess.run([*load, "--sla", "p95<1s", "--report", str(page)], env=headway.env, check=False)
        finally:
            headway.down()
        if done.returncode not in (0, 1, 10):
            return done.returncode
        _picture(page)
        first, second, third = json.loads(page.with_suffix(".json").read_text())["phases"]
    grown = second["replicas_most"] > first["replicas_most"]
    return 0 if grown and third["figures"]["p95_s"] > second["figures"]["p50_s"] else 1


def _picture(page: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1150,1600"]
    shot = f"--screenshot={page.with_suffix('.png')}"
    subprocess.run([browser, *options, shot, page.as_uri()], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
