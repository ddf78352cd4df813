"""The whole path at 6,000 requests a minute: gateway, model server, query log on, loaded by ``headway loadtest``.

A scikit-learn model (the iris example) with one replica on this machine, the generator beside it. Prints percentiles,
errors, and whether every request is in the query log. Usage: whole_path.py [SECONDS]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from installation import Installation

ROOT = Path(__file__).resolve().parents[1]
RATE = 100


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        model = Path(folder) / "iris"
        shutil.copytree(ROOT / "examples" / "iris", model)
        subprocess.run([sys.executable, "train.py"], cwd=model, check=True, stdout=subprocess.DEVNULL)
        headway = Installation(home, None)
        headway.up()
        try:
            return _measure(headway, model, seconds, Path(folder))
        finally:
            headway.down()


def _measure(headway: Installation, model: Path, seconds: float, folder: Path) -> int:
    client = headway.client()
    client.deploy(model, name="iris")
    load = [sys.executable, "-m", "headway.cli.main", "loadtest", "iris", "--rate", str(RATE), "-o", "json"]
    options = ["--duration", f"{seconds:g}s", "--report", str(folder / "report.html")]
    done = subprocess.run([*load, *options], env=headway.env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr)
        return 1
    report = json.loads(done.stdout)
    total, health = report["total"], report["health"]
    (window,) = client.windows("iris", window="1h", since=report["started_at"] - 0.01).windows
    figures = ("p50_s", "p95_s", "p99_s", "max_s")
    rate = f"{report['duration_s']:.0f} s ({total['per_s']:.1f}/s)"
    print(f"{total['count']:,} requests in {rate}, {total['errors']} errors")
    print("seen by the generator: " + ", ".join(f"{name[:-2]} {total[name] * 1e3:.2f} ms" for name in figures))
    print(f"in the query log: {window.count:,}, p50 {window.p50_ms:.2f} ms, p99 {window.p99_ms:.2f} ms")
    late = f"late p99 {health['late_p99_s'] * 1e3:.2f} ms"
    print(f"generator: {late}, {health['cpu_share']:.0%} of a core; {'; '.join(health['reasons']) or 'kept up'}")
    return 0 if total["errors"] == 0 and window.count == total["count"] else 1


if __name__ == "__main__":
    sys.exit(main())
