#!/usr/bin/env bash
# The exit with a key and cast, as docs/protocol/payment.md says it: its commands are taken out of the document and run,
# while no node runs and nothing of the data folders is left but the keys and a tower's file. All of it twice: paid in MOR,
# and paid in the local chain's dollar.
# usage: exit.sh LETHE CAST
set -euo pipefail
# shellcheck source=check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

LETHE=$(realpath "$1")
CAST=$(realpath "$2")
DOCUMENT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../docs/protocol/payment.md")
GGUF=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../crates/engine/model/demo.gguf")
readonly LETHE CAST DOCUMENT GGUF
readonly START_S=60 OVER_S=1100 MODEL=lethe-demo

root=$(mktemp -d -t lethe-exit-XXXXXX)
readonly root
pids=()
finish() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$root/bin"
ln -s "$CAST" "$root/bin/cast"
export PATH="$root/bin:$PATH"

# usage: start NAME ARGUMENTS...   Waits until it says that it is ready; its line of JSON is in $work/NAME.json.
start() {
  local name=$1 deadline=$((SECONDS + START_S))
  shift
  "$LETHE" "$@" --data "$work/$name" --json >"$work/$name.json" 2>"$work/$name.log" &
  pids+=($!)
  disown
  until [[ -s $work/$name.json ]]; do
    kill -0 $! 2>/dev/null && ((SECONDS < deadline)) || {
      echo "$name did not start: $(tail -c 500 "$work/$name.log")" >&2
      return 1
    }
    sleep 0.2
  done
}

# usage: block NAME   The document's commands of this name.
block() {
  awk -v mark="<!-- run: $1 -->" '$0 == mark { on = 1; next } on && /^```sh$/ { code = 1; next }
    code && /^```$/ { exit } code { print }' "$DOCUMENT"
}

# usage: table COLUMN   An address of the document's table for the local network.
table() { grep '^| `local` |' "$DOCUMENT" | cut -d'|' -f"$1" | tr -d ' `'; }

# usage: steps NAME...   Runs the named commands of the document in one shell, as a reader would.
steps() {
  local name
  {
    echo 'set -eu'
    for name in "$@"; do
      [[ -n $(block "$name") ]] || echo "echo 'the document has no commands named $name' >&2; exit 1"
      block "$name"
    done
  } >"$work/steps.sh"
  timeout 120 sh "$work/steps.sh" >"$work/steps.out" 2>&1 || {
    tail -n 20 "$work/steps.out" >&2
    return 1
  }
}

# usage: held TOKEN ACCOUNT
held() { cast call "$1" 'balanceOf(address)(uint256)' "$2" | cut -d' ' -f1; }
rpc() { cast rpc "$@" >/dev/null; }

market() {
  start chain chain --cheats --rpc 127.0.0.1:0
  ETH_RPC_URL=$(field rpc_url <"$work/chain.json")
  export ETH_RPC_URL
  # At 100 for a million tokens an answer costs many units of either token.
  start provider provide --rpc-url "$ETH_RPC_URL" --model $MODEL --gguf "$GGUF" --endpoint 127.0.0.1:0 --claim-every 86400 \
    --token "$1" --input-price 100 --output-price 100 --tower-file "$work/claims.json"
  start consumer consume --direct --rpc-url "$ETH_RPC_URL" --http 127.0.0.1:0 --pay-with "$1" --deposit "2$1"
}

# Buys an answer; waits until the tower's file knows what it cost.
answer() {
  local deadline=$((SECONDS + START_S))
  until python3 - "$work/consumer.json" $MODEL <<'ASK' && grep -q '"total"' "$work/claims.json"; do
import json, sys, urllib.request
ready = json.load(open(sys.argv[1]))
body = {"model": sys.argv[2], "messages": [{"role": "user", "content": "What is a glacier?"}]}
request = urllib.request.Request(ready["base_url"] + "/chat/completions", json.dumps(body).encode(),
    {"Authorization": "Bearer " + ready["api_key"], "Content-Type": "application/json"})
urllib.request.urlopen(request, timeout=60).read()
ASK
    ((SECONDS < deadline)) || return 1
    sleep 1
  done
}

# The node is gone, and its folders but for the keys.
alone() {
  local name pid
  for pid in "${pids[@]:1}"; do kill -KILL "$pid"; done
  pids=("${pids[0]}")
  for name in provider consumer; do
    mv "$work/$name/keys" "$work/$name.keys"
    rm -rf "${work:?}/$name"
  done
}

export MOR REGISTRY SETTLEMENT KEY GAS_KEY HOME_ACCOUNT CLAIMS_FILE TOKENS
MOR=$(table 3)
DOLLAR=$(table 4)
REGISTRY=$(table 5)
SETTLEMENT=$(table 6)
readonly DOLLAR
# The first development account: it has coins, and takes no part.
GAS_KEY=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80

# The words are all that is left; the paths are those of docs/protocol/keys.md.
key_at() { cast wallet private-key "$(cat "$work/$1.keys/mnemonic")" "$2"; }
readonly WALLET="m/44'/60'/0'/0/0" PSEUDONYM="m/27764'/1'/0'/1'" PROVIDER_PATH="m/27764'/2'/0'/1548491108'"

payer_begins() {
  KEY=$(key_at consumer "$PSEUDONYM")
  HOME_ACCOUNT=$(cast wallet address --private-key "$(key_at consumer "$WALLET")")
  before=$(held "$paid" "$HOME_ACCOUNT")
  echo "$before" >"$work/before"
  steps payer-find payer-begin
  grep -q '^(0x' "$work/steps.out"
}

provider_claims() {
  steps provider-claim
  owed=$(cast call "$SETTLEMENT" 'receivers(address,address)(uint128,uint128)' "$(field provider <"$work/provider.json")" "$paid" |
    head -n 1 | cut -d' ' -f1)
  ((owed > 0))
  echo "$owed" >"$work/owed"
}

payer_ends() {
  KEY=$(key_at consumer "$PSEUDONYM")
  HOME_ACCOUNT=$(cast wallet address --private-key "$(key_at consumer "$WALLET")")
  rpc evm_increaseTime $OVER_S
  rpc evm_mine
  steps payer-find payer-end
  # One deposit of 2, less what was claimed.
  want "$(held "$paid" "$HOME_ACCOUNT")" "$(python3 -c "print($(cat "$work/before") + 2 * 10**$digits - $(cat "$work/owed"))")"
  want "$(held "$paid" "$(cast wallet address --private-key "$KEY")")" 0
}

provider_leaves() {
  local provider
  provider=$(field provider <"$work/provider.json")
  KEY=$(key_at provider "$PROVIDER_PATH")
  HOME_ACCOUNT=0x00000000000000000000000000000000000c01d0
  steps provider-leave
  local fee stakes earned token
  fee=$(cast call "$REGISTRY" 'getBidFee()(uint256)' | cut -d' ' -f1)
  stakes=$(python3 -c "print(2 * 10**18 - $fee)")
  earned=$(cat "$work/owed")
  for token in "$MOR" "$DOLLAR"; do
    want "$(held "$token" "$provider")" 0
    want "$(held "$token" "$SETTLEMENT")" 0
  done
  if [[ $paid == "$MOR" ]]; then
    want "$(held "$MOR" $HOME_ACCOUNT)" "$(python3 -c "print($stakes + $earned)")"
  else
    want "$(held "$MOR" $HOME_ACCOUNT)" "$stakes"
    want "$(held "$paid" $HOME_ACCOUNT)" "$earned"
  fi
  want "$(held "$MOR" "$REGISTRY")" "$fee"
}

# usage: play NAME ADDRESS DIGITS   All of it, on a chain of its own, paid in this token.
play() {
  local name=$1
  paid=$2 digits=$3 work=$root/$1
  TOKENS=$paid
  CLAIMS_FILE=$work/claims.json
  mkdir "$work"
  market "$name"
  answer
  alone
  check "exit by cast: a payer finds its channels and asks for all, in $name" payer_begins
  check "exit by cast: a provider's signed claims are taken from anybody, in $name" provider_claims
  check "exit by cast: the payer has the rest after the delay, in $name" payer_ends
  check "exit by cast: the provider is paid out and has its stakes back, with what it earned in $name" provider_leaves
  kill -KILL "${pids[0]}"
  pids=()
}

play mor "$MOR" 18
play usdc "$DOLLAR" 6
exit "$failed"
