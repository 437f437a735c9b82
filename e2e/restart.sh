#!/usr/bin/env bash
# `lethe up` again on a data folder that was used: as a person starts it, with the curl line that it prints.
# usage: restart.sh LETHE DATA
set -euo pipefail
# shellcheck source=check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

readonly LETHE=$1 DATA=$2
readonly START_S=60 STOP_S=30
said=$(mktemp)
up=
trap '[[ -z $up ]] || kill -KILL "$up" 2>/dev/null || true; rm -f "$said"' EXIT

# usage: await SECONDS COMMAND ARGUMENTS...
await() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

is_up() { grep -q 'Ctrl-C stops' "$said"; }
is_gone() { ! kill -0 "$up" 2>/dev/null; }

started() { await "$START_S" is_up; }

no_key_in_a_file() {
  if grep -qF "$(cat "$DATA/api-key")" "$said"; then
    echo "the key is in the output although that is no terminal" >&2
    return 1
  fi
}

curl_line() {
  local line answer
  line=$(grep -A1 '^  curl -N' "$said")
  answer=$(eval "timeout 30 $line" 2>/dev/null)
  match "$answer" '"content":"'
  match "$answer" 'data: \[DONE\]'
}

still_complete() { match "$(timeout 30 "$LETHE" where --data "$DATA")" 'every unit is accounted for'; }

stopped() {
  kill -INT "$up"
  await "$STOP_S" is_gone
}

"$LETHE" up --data "$DATA" --http 127.0.0.1:0 --rpc 127.0.0.1:0 >"$said" &
up=$!
check "restart: it starts again on the same data" started
check "restart: the key is not written where no terminal is" no_key_in_a_file
check "restart: the curl line works as it is printed" curl_line
check "restart: every unit is still accounted for" still_complete
check "restart: it stops when told" stopped
exit "$failed"
