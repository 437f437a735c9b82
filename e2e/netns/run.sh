#!/usr/bin/env bash
# Who learns what: a built lethe on hosts of its own (network namespaces), recorded and searched; two homes behind routers
# that let nothing in; and a machine to which a public address is passed on. Needs root.
# usage: run.sh LETHE
set -euo pipefail

lethe=$(realpath "$1")
readonly lethe
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
readonly here
readonly WITHIN_S=240
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here/.."

((EUID == 0)) || {
  echo "FAIL netns: hosts of one's own need root (run it with sudo)"
  exit 1
}
command -v ip >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iproute2 >/dev/null
}

complaints=$(mktemp)
readonly complaints
trap 'rm -f "$complaints"' EXIT
status=0
for suite in suite homes cloud; do
  ended=0
  timeout --kill-after=20 "$WITHIN_S" python3 "$here/$suite.py" "$lethe" 2>"$complaints" || ended=$?
  if ((ended != 0)); then
    status=$ended
    tail -n 80 "$complaints" >&2
    echo "FAIL netns: $suite ended with status $ended within $WITHIN_S s"
  fi
done
exit "$status"
