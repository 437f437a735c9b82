#!/usr/bin/env bash
# kill -9, a full disk and a power cut at every named point of the money path,
# on real processes: a line a case, and totals. BENCHMARKS.md has the last run.
#
#   bash bench/kill_matrix.sh            all points with all three
#   bash bench/kill_matrix.sh every      each point once with SIGKILL, a tenth with the others
#   bash bench/kill_matrix.sh deposit    the points whose line contains that
set -euo pipefail
cd "$(dirname "$0")/.."

git log -1 --format='commit %h of %cs'
LETHE_KILL_MATRIX="${1:-all}" cargo test --workspace --test stories whatever_fails_at_any_point -- --nocapture
