"""``make bench``: run every program in ``benchmarks/``, or those whose name contains one of the arguments.

A program is a file with a ``__main__`` part; the others are its modules. Exits 1 when one of them did.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def programs(wanted: list[str]) -> list[Path]:
    found = sorted(p for p in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in p.read_text("utf-8"))
    return [p for p in found if not wanted or any(word in p.stem for word in wanted)]


def main() -> int:
    chosen = programs(sys.argv[1:])
    if not chosen:
        print("no such benchmark; there are: " + ", ".join(p.stem for p in programs([])), file=sys.stderr)
        return 2
    failed = []
    for program in chosen:
        print(f"\n==> {program.stem}", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, str(program)], cwd=ROOT, check=False).returncode != 0:
            failed.append(program.stem)
        print(f"    {program.stem}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
