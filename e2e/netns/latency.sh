#!/usr/bin/env bash
# The relay's share of the time to the first token, as a table for BENCHMARKS.md. Needs root; a release build, and an
# otherwise idle machine.
# usage: latency.sh LETHE [ROUNDS]
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
readonly here
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here/.."
exec timeout 1200 python3 "$here/latency.py" "$(realpath "$1")" "${2:-200}" 0 20 40
