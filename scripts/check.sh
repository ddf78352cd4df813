#!/usr/bin/env bash
# Every check that is no test, all of them even when one fails. $1: folder of the tools.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
failed=()

run() {
  local name=$1
  shift
  local output
  if output=$("$@" 2>&1); then
    printf 'ok    %s\n' "$name"
  else
    printf 'FAIL  %s\n%s\n' "$name" "$output"
    failed+=("$name")
  fi
}

run "ruff: rules" "$bin/ruff" check .
run "ruff: format" "$bin/ruff" format --check .
run "mypy: types" "$bin/mypy"
run "import-linter: rooms and doors" "$bin/lint-imports"
run "house rules: names, file sizes" "$bin/python" scripts/check_house.py
run "documentation: pages and links" "$bin/python" scripts/check_docs.py
run "documentation: site builds" "$bin/zensical" build --clean --strict

if ((${#failed[@]})); then
  printf '%d of the checks failed: %s\n' "${#failed[@]}" "$(IFS=,; echo "${failed[*]}")"
  exit 1
fi
echo "all checks passed"
