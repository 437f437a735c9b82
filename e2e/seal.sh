#!/usr/bin/env bash
# Sealing, against the second implementation in docs/protocol: published exchanges, and live ones both ways.
# usage: seal.sh PROGRAM MESSAGES   (the examples `vectors` of the crate `seal` and `messages` of `transport`)
set -euo pipefail

program=$(realpath "$1")
messages=$(realpath "$2")
readonly program messages
cd "$(dirname "${BASH_SOURCE[0]}")/../docs/protocol"
readonly VENV=../../target/protocol-venv
export PYTHONDONTWRITEBYTECODE=1

cmp -s requirements.txt "$VENV/installed" || {
  python3 -m venv "$VENV" || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv "$VENV"; }
  "$VENV/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt "$VENV/installed"
}

"$VENV/bin/python" client.py vectors vectors
"$VENV/bin/python" client.py exchange "$program"
"$messages" | diff messages.json - || { echo "messages.json is not what is sent"; exit 1; }
"$VENV/bin/python" messages.py messages.json

# What the program writes anew opens as well.
fresh=$(mktemp -d -t lethe-vectors-XXXXXX)
readonly fresh
trap 'rm -rf "$fresh"' EXIT
"$program" write "$fresh"
"$VENV/bin/python" client.py vectors "$fresh"
