"""``python -m headway.server CONFIG.json``: see :mod:`headway.server.boot`."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from headway.server.boot import boot

EXIT_WITHIN_S = 3.0


def main() -> None:
    """Run, then leave as Python does (exit handlers run), but within bounds: user code may hold threads."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m headway.server CONFIG.json\n")
        sys.exit(2)
    code = boot(Path(sys.argv[1]).absolute())
    overdue = threading.Timer(EXIT_WITHIN_S, os._exit, (code,))
    overdue.daemon = True
    overdue.start()
    sys.exit(code)


if __name__ == "__main__":
    main()
