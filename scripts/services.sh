#!/usr/bin/env bash
# Have the real services that tests talk to: Prometheus, Redis, RabbitMQ, PostgreSQL, R, a registry of images, and a
# browser. The tests start and stop processes of their own; a package's own daemon is never started. Installs what is
# missing with apt when run as root, says what to install otherwise. Never fails: tests without their service are
# skipped, and with HEADWAY_REQUIRE_SERVICES=1 they fail and name it.
set -uo pipefail
shopt -s nullglob

say() { printf '==> %s\n' "$*"; }

# Debian keeps some of them out of PATH.
has() {
  local pattern found
  command -v "$1" >/dev/null && return
  for pattern in "${@:2}"; do
    for found in $pattern; do [[ -x $found ]] && return; done
  done
  return 1
}

missing=()
has prometheus || missing+=(prometheus)
has redis-server || missing+=(redis-server)
has rabbitmq-server "/usr/sbin/rabbitmq-server" || missing+=(rabbitmq-server)
has docker-registry || missing+=(docker-registry)
has skopeo || missing+=(skopeo)
has chromium "/usr/bin/chromium-browser" "/usr/bin/google-chrome" || missing+=(chromium)
has Rscript || missing+=(r-base-core)
has postgres "/usr/lib/postgresql/*/bin/postgres" || missing+=(postgresql)
((${#missing[@]})) || exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  say "tests that need these are skipped: ${missing[*]} (Debian, Ubuntu: sudo apt-get install ${missing[*]})"
  exit 0
fi

# Packages ask this file whether they may start their daemon; 101 is no.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" </dev/null
}

say "installing ${missing[*]} for the tests (their daemons are not started)"
if ! said=$(install 2>&1); then
  # Lists of packages that are too old name files that are gone.
  if ! said=$(apt-get update -qq 2>&1 && install 2>&1); then
    printf '%s\n' "$said" | tail -n 15
    say "not installed: ${missing[*]}; tests that need them are skipped, or fail with HEADWAY_REQUIRE_SERVICES=1"
  fi
fi
exit 0
