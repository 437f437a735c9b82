#!/usr/bin/env bash
# Keys, against other programs: the paths with PyPI's bip_utils and with cast, encrypted key files with cast both ways.
# usage: wallet.sh LETHE CAST
set -euo pipefail
lethe=$(realpath "$1")
cast=$(realpath "$2")
readonly lethe cast
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=check.sh
source ./check.sh
readonly VENV=../target/keys-venv KEYS=../docs/protocol/keys.md PASS=correct-horse
export PYTHONDONTWRITEBYTECODE=1

cmp -s keys-requirements.txt "$VENV/installed" || {
  python3 -m venv "$VENV" || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv "$VENV"; }
  "$VENV/bin/pip" install --quiet --disable-pip-version-check -r keys-requirements.txt
  cp keys-requirements.txt "$VENV/installed"
}

work=$(mktemp -d -t lethe-wallet-XXXXXX)
readonly work
trap 'rm -rf "$work"' EXIT
umask 077
echo "$PASS" >"$work/passphrase"

wallet() { timeout 60 "$lethe" wallet --data "$work/data" "$@"; }
address_of() { wallet show --pseudonyms 2 --json | python3 -c 'import json, sys; print(next(key["public"] for key in json.load(sys.stdin)["keys"] if key["name"] == sys.argv[1]))' "$1"; }

vectors() { "$VENV/bin/python" keys.py "$KEYS"; }

# New words, at every path that cast can walk.
paths() {
  local words name path
  words=$(wallet phrase --yes)
  want "$(wc -w <<<"$words")" 12
  for name in "payer m/44'/60'/0'/0/0" "hot m/27764'/0'/0'/0'" "hot-2 m/27764'/0'/0'/2'" "payer-2 m/27764'/1'/0'/2'"; do
    path=${name#* }
    want "$(address_of "${name%% *}")" "$("$cast" wallet address --mnemonic "$words" --mnemonic-derivation-path "$path")"
  done
}

no_words_by_accident() {
  local said
  if said=$(wallet phrase </dev/null 2>&1); then return 1; fi
  match "$said" 'give --yes'
}

exported() {
  wallet export payer-1 --out "$work/payer-1.json" --passphrase-file "$work/passphrase"
  want "$(stat -c %a "$work/payer-1.json")" 600
  want "$("$cast" wallet address --keystore "$work/payer-1.json" --password "$PASS")" "$(address_of payer-1)"
  match "$("$cast" wallet decrypt-keystore payer-1.json -k "$work" --unsafe-password "$PASS")" '0x[0-9a-f]{64}'
}

imported() {
  local key
  key=0x$(printf '%064x' 12345)
  "$cast" wallet import of-cast -k "$work" --private-key "$key" --unsafe-password "$PASS" >/dev/null
  wallet import "$work/of-cast" --name relay --passphrase-file "$work/passphrase"
  want "$(address_of relay)" "$("$cast" wallet address --private-key "$key")"
  # And back again, as the same key.
  wallet export relay --out "$work/relay.json" --passphrase-file "$work/passphrase"
  match "$("$cast" wallet decrypt-keystore relay.json -k "$work" --unsafe-password "$PASS")" "$key"
}

wrong_passphrase() {
  local said
  echo wrong >"$work/wrong"
  if said=$(wallet import "$work/of-cast" --name other --passphrase-file "$work/wrong" 2>&1); then return 1; fi
  match "$said" 'not its passphrase'
}

open_files() {
  local said
  echo 0x01 >"$work/open"
  chmod 644 "$work/open"
  if said=$(wallet import "$work/open" --name other 2>&1); then return 1; fi
  match "$said" 'chmod 600'
}

# What is shown and logged at the finest level holds no secret.
quiet() {
  local words key said
  words=$(wallet phrase --yes)
  key=$("$cast" wallet private-key --mnemonic "$words" --mnemonic-derivation-path "m/27764'/1'/0'/1'")
  said=$(LETHE_LOG=trace,lethe=trace wallet show --pseudonyms 2 2>&1; LETHE_LOG=trace,lethe=trace wallet export payer-1 --passphrase-file "$work/passphrase" 2>&1)
  match "$said" 'payer-1'
  ! grep -qiE "${key#0x}|$(cut -d' ' -f1-3 <<<"$words")" <<<"$said"
}

wallet new >/dev/null
check "wallet: the published vectors, made again" vectors
check "wallet: cast finds the same accounts from the words" paths
check "wallet: the words go nowhere by accident" no_words_by_accident
check "wallet: cast opens what is exported" exported
check "wallet: what cast encrypted is imported" imported
check "wallet: a wrong passphrase is told" wrong_passphrase
check "wallet: a key that others can read is refused" open_files
check "wallet: no secret is shown or logged" quiet
exit "$failed"
