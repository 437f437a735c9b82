#!/usr/bin/env bash
# The other commands beside a running `lethe up`.
# usage: cli.sh LETHE DATA
set -euo pipefail
# shellcheck source=check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

readonly LETHE=$1 DATA=$2
lethe() { timeout 30 "$LETHE" "$@"; }

whereabouts() {
  local money
  money=$(lethe where --data "$DATA" --json)
  want "$(field complete <<<"$money")" True
  want "$(field sum <<<"$money")" "$(field supply <<<"$money")"
}

table() { match "$(lethe where --data "$DATA")" 'every unit is accounted for'; }

one_question() {
  local said
  said=$(lethe chat --data "$DATA" "What is a glacier?")
  match "$said" '^[A-Z].*\.'
  match "$said" 'first token [0-9]+ ms · ([0-9]+|–) tokens/s · [0-9]+ in, [0-9]+ out · 0\.[0-9]+ MOR \(<?\$[0-9.]+\) · network=oblivious,payer=pseudonym,upstream=own-engine\]$'
}

conversation() {
  local said
  said=$(printf 'What is a glacier?\nWhat is a river?\n' | lethe chat --data "$DATA")
  want "$(grep -c 'first token' <<<"$said")" 2
}

taken_folder() {
  local said
  if said=$(lethe up --data "$DATA" --http 127.0.0.1:0 --rpc 127.0.0.1:0 2>&1); then
    return 1
  fi
  match "$said" 'in use by another lethe'
}

nothing_runs() {
  local said
  if said=$(lethe where --data "$DATA/none" 2>&1); then
    return 1
  fi
  match "$said" 'lethe up'
}

real_money() {
  local said
  if said=$(lethe consume --data "$DATA-real" --network base --rpc-url http://127.0.0.1:9 2>&1); then
    return 1
  fi
  match "$said" '--unaudited'
}

check "cli: where, as JSON, is complete" whereabouts
check "cli: where, as a table, is complete" table
check "cli: chat answers a question with its figures" one_question
check "cli: chat answers a conversation from a pipe" conversation
check "cli: a data folder has one owner" taken_folder
check "cli: where nothing runs, it says how to start" nothing_runs
check "cli: real money needs a flag" real_money
exit "$failed"
