#!/usr/bin/env bash
# Remove what make built. The demo's home may have live processes: those are stopped by `make demo-down`, not here.
set -euo pipefail
cd "$(dirname "$0")/.."

for entry in /proc/[0-9]*/environ; do
  if { tr '\0' '\n' <"$entry" | grep -qxF "HEADWAY_HOME=$PWD/.demo/home"; } 2>/dev/null; then
    echo "make clean: the demo is running; stop it with: make demo-down" >&2
    exit 1
  fi
done
chmod -R u+w .demo 2>/dev/null || true
rm -rf .venv .demo site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
