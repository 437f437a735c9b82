#!/usr/bin/env bash
# Proves in about a minute that the demo model can still be made: prepares the
# data, trains a tiny configuration, is stopped and goes on from a checkpoint,
# exports a GGUF that llama.cpp loads and answers from, and asks the committed
# model a few questions. The answers of the tiny model are not judged.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
model=$here/../../crates/engine/model/demo.gguf
work=${DEMO_MODEL_WORK:-$(mktemp -d)}
mkdir -p "$work"
if [ -z "${DEMO_MODEL_WORK:-}" ]; then trap 'rm -rf "$work"' EXIT; fi
say() { printf '\n== %s\n' "$*"; }

if [ ! -f "${WORDNET:-/usr/share/wordnet}/data.noun" ]; then
    say "installing wordnet-base"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends wordnet-base
fi

python=$work/venv/bin/python
if [ ! -f "$work/venv/ready" ] || ! cmp -s "$work/venv/ready" "$here/requirements.txt"; then
    say "installing the pinned requirements"
    python3 -m venv "$work/venv"
    "$python" -m pip install --quiet --no-compile --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$work/venv/ready"
fi

say "preparing data"
"$python" "$here/prepare.py" --work "$work/smoke-data" --nouns 200 --vocabulary 512

say "training, stopped half-way and resumed"
rm -rf "$work/smoke-run"
train() { "$python" "$here/train.py" --data "$work/smoke-data" --out "$work/smoke-run" --configuration smoke "$@" | tee -a "$work/smoke-run.log"; }
: > "$work/smoke-run.log"
train --stop-after 30
train
grep -q '^resumed at step 20$' "$work/smoke-run.log" || { echo "smoke: training did not resume from its checkpoint" >&2; exit 1; }
"$python" - "$work/smoke-run.log" <<'PYTHON'
import re, sys
losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", open(sys.argv[1]).read())]
print(f"loss {losses[0]} -> {losses[-1]}")
sys.exit(None if losses[-1] < 0.8 * losses[0] else "smoke: the loss did not fall by a fifth")
PYTHON

say "exporting, and loading in llama.cpp"
"$python" "$here/export.py" --data "$work/smoke-data" --checkpoint "$work/smoke-run/checkpoint.pickle" --to "$work/smoke.gguf"
"$python" "$here/check.py" "$work/smoke.gguf" --only-generate

say "asking the committed model"
"$python" "$here/check.py" "$model" --limit 40 --least 0.75 --show 3

say "demo model: smoke passed"
