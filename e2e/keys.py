"""Makes the vectors of docs/protocol/keys.md again, with PyPI's bip_utils, and compares.

usage: keys.py docs/protocol/keys.md
"""

import hashlib
import re
import sys

from bip_utils import Bip32Slip10Ed25519, Bip32Slip10Secp256k1, Bip39SeedGenerator, EthAddrEncoder

PURPOSE = 27764


def index(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") & 0x7FFFFFFF


def path(name, account):
    if name == "payer":
        return f"m/44'/60'/0'/0/{account}"
    for word, branch in (("payer", 1), ("hot", 0)):
        number = re.fullmatch(rf"{word}(?:-(\d+))?", name)
        if number:
            return f"m/{PURPOSE}'/{branch}'/{account}'/{number[1] or 0}'"
    branch, name = (3, name.removesuffix(".node")) if name.endswith(".node") else (2, name)
    return f"m/{PURPOSE}'/{branch}'/{account}'/{index(name)}'"


def public(seed, name, at):
    if name.endswith(".node"):
        key = Bip32Slip10Ed25519.FromSeedAndPath(seed, at).PublicKey()
        return "0x" + key.RawCompressed().ToHex()[2:]
    key = Bip32Slip10Secp256k1.FromSeedAndPath(seed, at).PublicKey()
    return EthAddrEncoder.EncodeKey(key.KeyObject())


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    words = re.search(r"Words: `([a-z ]+)`", text)[1]
    seed = Bip39SeedGenerator(words).Generate()
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \| `([^`]+)` \| `([^`]+)` \|$", text, re.M)
    wrong = 0
    for name, account, at, expected in rows:
        if path(name, account) != at or public(seed, name, at) != expected:
            wrong += 1
            print(f"FAIL keys: {name} of account {account}")
    if len(rows) < 11:
        sys.exit("FAIL keys: the table of vectors is not where it was")
    if wrong:
        sys.exit(1)
    print(f"ok keys: {len(rows)} vectors of docs/protocol/keys.md, made again with bip_utils")


main()
