"""Does a plan hold? A scikit-learn model on this machine: plan, then load it as planned, then with 1.3 times that.

    python benchmarks/plan_holds.py [--replicas 1] [--duration 30s] [--repeats 3]

`headway plan` measures a random forest at 1 replica, predicts another load, tries it, and says how many users each
number of replicas carries. Then `headway loadtest` sends exactly so many users, and 1.3 times as many, with the same
promise, three times each and in turns. Every time the first has to keep it and the second has to break it; the program
exits with 1 when not. A test whose verdict is refused, since something else had the processor, is made again, and said
to have been; after as many refusals as there are repeats the program gives up.

The model takes some 15 ms and the promise is 200 ms: it is about waiting, and what a busy machine does to one request
is small beside it. It is planned by latency alone (--cpu-ceiling 100%): what a plan keeps free for bursts has nothing
to do with where the promise breaks. Generator, gateway and replicas share the machine's cores: a busy machine makes the
plan smaller, not wrong, unless it becomes busy only afterwards. So the load average is printed with the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from installation import Installation, write_model

CODE = """
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier


class Forest:
    def load(self):
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(4000, 12))
        self.forest = RandomForestClassifier(400, max_depth=9, random_state=1, n_jobs=1)
        self.forest.fit(rows, (rows[:, 0] * rows[:, 1] > 0.1) + 2 * (rows[:, 2] > 0))

    def predict(self, X, features_names=None):
        return self.forest.predict_proba(np.asarray(X))
"""
SPEC = {
    "resources": {"cpu": "1"},
    "server": {"maxBatchSize": 1},
    "scaling": {"minReplicas": 1},
}


def headway(home: Installation, *arguments: str) -> tuple[int, Any]:
    """A command of its own process; its exit code and JSON."""
    command = [sys.executable, "-m", "headway.cli.main", *arguments, "-o", "json"]
    done = subprocess.run(command, env=home.env, stdout=subprocess.PIPE, text=True, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = None
    if told is None or (done.returncode not in (0, 1) and "error" in told):
        print(done.stdout[-2000:], file=sys.stderr)
    return done.returncode, told


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--replicas", type=int, default=1, help="the plan is held against the load of so many")
    options.add_argument("--most", type=int, default=1, help="replicas that the plan may start")
    options.add_argument("--duration", default="30s")
    options.add_argument("--promise", default="p95<200ms")
    options.add_argument("--run", default="8s")
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args()
    row = json.dumps([[0.1] * 12]).encode()
    with tempfile.TemporaryDirectory(prefix="headway-plan-") as folder:
        root = Path(folder)
        home = Installation(root / "home", None)
        home.home.mkdir()
        home.up()
        try:
            model = write_model(root / "forest", "forest", CODE, SPEC)
            (model / "sample.json").write_bytes(row)
            (root / "rows.json").write_bytes(row)
            with home.client() as client:
                client.deploy(model)
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
            began = time.monotonic()
            rows = ["--data", str(root / "rows.json")]
            code, plan = headway(
                home, "plan", "forest", "--sla", chosen.promise, "--max-replicas", str(chosen.most),
                "--duration", chosen.run, "--think-time", "500ms", "--cpu-ceiling", "100%", *rows,
            )  # fmt: skip
            if code != 0 or plan is None:
                return 1
            document = plan["document"]
            print(f"planned in {time.monotonic() - began:.0f} s by {document['model']['chosen']}")
            print(json.dumps(document["model"]), json.dumps(document["held_out"] and document["held_out"]["error"]))
            for point in document["points"]:
                print(f"  {point['replicas']} × {point['load']['size']:4d}: {point['value_s'] * 1000:.1f} ms")
            for one in document["capacity"]:
                print("  carried:", {k: v for k, v in one.items() if v is not None})
            planned = next(c for c in document["capacity"] if c["replicas"] == chosen.replicas)
            with home.client() as client:
                client.set_scaling("forest", None)
                client.scale("forest", chosen.replicas)
            passed, refused = True, 0
            cases = [(1.0, "kept"), (1.3, "broken")] * chosen.repeats
            while cases:
                factor, wanted = cases.pop(0)
                users = round(planned["size"] * factor)
                code, report = headway(
                    home, "loadtest", "forest", "--users", str(users), "--duration", chosen.duration, "--think-time",
                    "500ms", "--sla", chosen.promise, "--report", str(root / "load.html"), *rows,
                )  # fmt: skip
                found = report["verdict"]["outcome"] if report else f"exit {code}"
                p95 = report["total"]["p95_s"] * 1000 if report else float("nan")
                print(f"{factor:g} × {planned['size']:.0f} users = {users}: {found}, p95 {p95:.1f} ms", flush=True)
                if found == "refused" and refused < chosen.repeats:
                    refused += 1
                    cases.append((factor, wanted))
                    continue
                passed = passed and found == wanted
            print(f"load average {os.getloadavg()[0]:.1f}")
            print("passed" if passed else "FAILED")
            return 0 if passed else 1
        finally:
            home.down()


if __name__ == "__main__":
    sys.exit(main())
