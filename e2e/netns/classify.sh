#!/usr/bin/env bash
# What sizes and times of packets tell of an answer, as a table for BENCHMARKS.md: for each difference between two kinds
# of answers, how well a classifier tells them apart (AUC: 0.5 not at all, 1 always). Needs root.
# usage: classify.sh LETHE [STREAMS_OF_EACH_KIND]
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
readonly here
readonly VENV="$here/../../target/netns-venv"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here/.."

cmp -s "$here/requirements.txt" "$VENV/installed" || {
  python3 -m venv "$VENV" || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv "$VENV"; }
  "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$VENV/installed"
}
exec timeout 3000 "$VENV/bin/python" "$here/classify.py" "$(realpath "$1")" "${2:-200}"
