#!/usr/bin/env bash
# Runs the smoke test where what it tests has changed since it last passed; `held.txt` names that state.
#   bash tools/demo-model/held.sh            does nothing if that is so
#   bash tools/demo-model/held.sh --record   runs it, and writes the state down
set -euo pipefail
cd "$(dirname "$0")/../.."

state="$(git ls-files -s -- tools/demo-model crates/engine/model ':!tools/demo-model/held.txt' | sha256sum | cut -d' ' -f1)"
if [ "${1:-}" != --record ] && [ "$state" = "$(cat tools/demo-model/held.txt 2>/dev/null)" ]; then
  echo "nothing of it changed since it passed: $state"
  exit 0
fi
bash tools/demo-model/smoke.sh
[ "${1:-}" != --record ] || printf '%s\n' "$state" >tools/demo-model/held.txt
