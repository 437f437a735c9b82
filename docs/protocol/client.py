#!/usr/bin/env python3
"""A second implementation of Lethe's sealing, written from wire.md and the RFCs.

It shares no code with the crate `seal`: HPKE, Chunked OHTTP, cells and epoch records are here from primitives up.

    client.py vectors FOLDER     the published exchanges open as they say
    client.py exchange PROGRAM   live, both ways, with `seal`'s example `vectors`
"""

import hashlib
import hmac
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

CELL, TAG, LENGTH, HEADER = 256, 16, 2, 7
LADDER = [2 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10, 2 << 20, 8 << 20, 20 << 20]
CHUNK_MAX = 16 << 10
OPENING, MORE, DATA, KEEP_ALIVE, PAD = 1, 2, 3, 4, 5
KINDS = {OPENING: "opening", MORE: "more", DATA: "data", KEEP_ALIVE: "keepAlive", PAD: "pad"}
PACINGS = ["fast", "paced"]
OPENING_HEAD = struct.Struct(">B32sQBI")
LABEL = bytes.fromhex("5c2e2f2f5e5c")  # X-Wing's
REQUEST_INFO = b"message/bhttp chunked request\0"
RESPONSE_LABEL = b"message/bhttp chunked response"


class Refused(Exception):
    """The bytes are not what they should be."""


def must(holds, what):
    if not holds:
        raise Refused(what)


# --- HKDF and HPKE (RFC 5869, RFC 9180), base mode with HKDF-SHA256 -------------------------------------------------


def extract(salt, material):
    return hmac.digest(salt or bytes(32), material, "sha256")


def expand(key, info, length):
    made, block = b"", b""
    while len(made) < length:
        block = hmac.digest(key, block + info + bytes([len(made) // 32 + 1]), "sha256")
        made += block
    return made[:length]


def labeled_extract(suite, salt, label, material):
    return extract(salt, b"HPKE-v1" + suite + label + material)


def labeled_expand(suite, key, label, info, length):
    return expand(key, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


class X25519:
    name, kem, enc_bytes, key_bytes = "x25519", 0x0020, 32, 32
    suite = b"KEM" + struct.pack(">H", kem)

    @classmethod
    def derive(cls, material):
        key = labeled_extract(cls.suite, b"", b"dkp_prk", material)
        return labeled_expand(cls.suite, key, b"sk", b"", 32)

    @staticmethod
    def public(private):
        return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    @classmethod
    def shared(cls, agreed, enc, public):
        key = labeled_extract(cls.suite, b"", b"eae_prk", agreed)
        return labeled_expand(cls.suite, key, b"shared_secret", enc + public, 32)

    @classmethod
    def encapsulate(cls, public):
        ephemeral = X25519PrivateKey.generate()
        enc = ephemeral.public_key().public_bytes_raw()
        agreed = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
        return cls.shared(agreed, enc, public), enc

    @classmethod
    def decapsulate(cls, private, enc):
        agreed = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(enc))
        return cls.shared(agreed, enc, cls.public(private))


class XWing:
    """draft-connolly-cfrg-xwing-kem; as a KEM of HPKE: draft-ietf-hpke-pq."""

    name, kem, enc_bytes, key_bytes = "x-wing", 0x647A, 1120, 1216
    suite = b"KEM" + struct.pack(">H", kem)

    @classmethod
    def derive(cls, material):
        label = b"DeriveKeyPair"
        derived = material + b"HPKE-v1" + cls.suite + struct.pack(">H", len(label)) + label + struct.pack(">H", 32)
        return hashlib.shake_256(derived).digest(32)

    @staticmethod
    def parts(private):
        expanded = hashlib.shake_256(private).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])

    @classmethod
    def public(cls, private):
        lattice, curve = cls.parts(private)
        return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    @staticmethod
    def combine(lattice, agreed, ephemeral, public):
        return hashlib.sha3_256(lattice + agreed + ephemeral + public + LABEL).digest()

    @classmethod
    def encapsulate(cls, public):
        lattice, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
        curve = X25519PrivateKey.generate()
        ephemeral = curve.public_key().public_bytes_raw()
        agreed = curve.exchange(X25519PublicKey.from_public_bytes(public[1184:]))
        return cls.combine(lattice, agreed, ephemeral, public[1184:]), ciphertext + ephemeral

    @classmethod
    def decapsulate(cls, private, enc):
        lattice, curve = cls.parts(private)
        agreed = curve.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        public = curve.public_key().public_bytes_raw()
        return cls.combine(lattice.decapsulate(enc[:1088]), agreed, enc[1088:], public)


KEMS = {kem.kem: kem for kem in (X25519, XWing)}
CIPHERS = {1: (AESGCM, 16), 3: (ChaCha20Poly1305, 32)}


class Chunks:
    """One direction: a cipher that counts."""

    def __init__(self, cipher, base):
        self.cipher, self.base, self.count = cipher, base, 0

    def nonce(self):
        number = int.from_bytes(self.base, "big") ^ self.count
        self.count += 1
        return number.to_bytes(12, "big")

    def seal(self, cell):
        sealed = self.cipher.encrypt(self.nonce(), cell, b"")
        return struct.pack(">H", 0x4000 | len(sealed)) + sealed

    def end(self):
        return b"\0" + self.cipher.encrypt(self.nonce(), b"", b"final")

    def read(self, stream):
        """The cells in `stream`, to its authenticated end."""
        while True:
            must(stream, "breaks off")
            if stream[0] == 0:
                must(len(stream) == 1 + TAG, "breaks off, or goes on behind its end")
                must(self.open(stream[1:], b"final") == b"", "not empty at its end")
                return
            must(stream[0] >> 6 == 1 and len(stream) >= LENGTH, "length is not in two bytes")
            size = struct.unpack(">H", stream[:LENGTH])[0] & 0x3FFF
            chunk, stream = stream[LENGTH : LENGTH + size], stream[LENGTH + size :]
            must(len(chunk) == size, "breaks off")
            yield self.open(chunk, b"")

    def open(self, chunk, aad):
        try:
            return self.cipher.decrypt(self.nonce(), chunk, aad)
        except InvalidTag:
            raise Refused("a chunk does not open") from None


class Exchange:
    """Both directions of one request, on either side."""

    def __init__(self, header, enc, shared):
        _, kem, kdf, aead = struct.unpack(">BHHH", header)
        cipher, self.key_bytes = CIPHERS[aead]
        self.cipher, self.enc, self.front = cipher, enc, header + enc
        suite = b"HPKE" + struct.pack(">HHH", kem, kdf, aead)
        context = (
            b"\0"
            + labeled_extract(suite, b"", b"psk_id_hash", b"")
            + labeled_extract(suite, b"", b"info_hash", REQUEST_INFO + header)
        )
        secret = labeled_extract(suite, shared, b"secret", b"")
        key = labeled_expand(suite, secret, b"key", context, self.key_bytes)
        self.request = Chunks(cipher(key), labeled_expand(suite, secret, b"base_nonce", context, 12))
        exporter = labeled_expand(suite, secret, b"exp", context, 32)
        self.nonce_bytes = max(12, self.key_bytes)
        self.secret = labeled_expand(suite, exporter, b"sec", RESPONSE_LABEL, self.nonce_bytes)

    def response(self, nonce):
        key = extract(self.enc + nonce, self.secret)
        return Chunks(self.cipher(expand(key, b"key", self.key_bytes)), expand(key, b"nonce", 12))


# --- Cells and the ladder -------------------------------------------------------------------------------------------


def cell(kind, data, size=CELL):
    return (struct.pack(">BH", kind, len(data)) + data).ljust(size, b"\0")


def read_cell(plain):
    kind, length = struct.unpack(">BH", plain[:3])
    must(kind in KINDS, "unknown kind of cell")
    must(length <= len(plain) - 3, "longer than its cell")
    must(not any(plain[3 + length :]), "padding is not zero")
    must((kind in (KEEP_ALIVE, PAD)) == (length == 0) or kind == MORE, "wrong length for its kind")
    return kind, plain[3 : 3 + length]


def shape(kem, total):
    """The sizes of an opening's cells, on the lowest rung that takes `total` bytes of data."""
    for rung in LADDER:
        body = rung - HEADER - kem.enc_bytes
        chunks = -(-body // CHUNK_MAX)
        sizes = [body // chunks + (index < body % chunks) - LENGTH - TAG for index in range(chunks)]
        if sum(size - 3 for size in sizes) - OPENING_HEAD.size >= total:
            return sizes
    raise Refused("too long")


def opening_cells(kem, record, now, pacing, data):
    head = OPENING_HEAD.pack(1, record, now, PACINGS.index(pacing), len(data))
    rest, kind = head + data, OPENING
    for size in shape(kem, len(data)):
        yield cell(kind, rest[: size - 3], size)
        rest, kind = rest[size - 3 :], MORE


def read_opening(kem, cells, record):
    first = next(cells)
    kind, data = read_cell(first)
    must(kind == OPENING, "begins with no opening")
    version, named, issued_at, pacing, total = OPENING_HEAD.unpack(data[: OPENING_HEAD.size])
    must(version == 1 and named == record, "another version or record")
    sizes, data = shape(kem, total), data[OPENING_HEAD.size :]
    must(len(first) == sizes[0], "off the ladder")
    for size in sizes[1:]:
        more = next(cells)
        kind, piece = read_cell(more)
        must(kind == MORE and len(more) == size, "off the ladder")
        data += piece
    must(len(data) == total, "not as long as it says")
    return {"kind": "opening", "issuedAt": issued_at, "pacing": PACINGS[pacing], "data": data.hex()}


def described(cells):
    for plain in cells:
        must(len(plain) == CELL, "a cell of another size")
        kind, data = read_cell(plain)
        must(kind in (DATA, KEEP_ALIVE, PAD), "out of turn")
        yield {"kind": KINDS[kind], **({"data": data.hex()} if data else {})}
    yield {"kind": "end"}


def data_cells(data):
    return [cell(DATA, data[at : at + CELL - 3]) for at in range(0, len(data), CELL - 3)]


# --- Epoch records --------------------------------------------------------------------------------------------------


def open_epoch(epoch, node, now):
    """The record's hash, and its keys by KEM: key id, public key, ciphers."""
    text, signature = epoch["record"].encode(), unhex(epoch["signature"])
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, b"lethe epoch v1\n" + text)
    except InvalidSignature:
        raise Refused("not signed by its node") from None
    record = json.loads(text)
    must(record["version"] == 1 and unhex(record["node"]) == node, "another version or node")
    must(record["notBefore"] <= now + 120 and now < record["notAfter"], "out of its time")
    keys, listed = {}, unhex(record["keys"])
    while listed:
        (size,) = struct.unpack(">H", listed[:2])
        entry, listed = listed[2 : 2 + size], listed[2 + size :]
        key_id, number = struct.unpack(">BH", entry[:3])
        if number in KEMS:
            end = 3 + KEMS[number].key_bytes
            offered = struct.iter_unpack(">HH", entry[end + 2 :])
            keys[number] = key_id, entry[3:end], [aead for kdf, aead in offered if kdf == 1]
    return hashlib.sha256(text).digest(), keys


def unhex(text):
    return bytes.fromhex(text.removeprefix("0x"))


# --- The two sides --------------------------------------------------------------------------------------------------


def ask(epoch, node, kem, aead, now):
    record, keys = open_epoch(epoch, node, now)
    key_id, public, offered = keys[kem.kem]
    must(aead in offered, "cipher is not offered")
    shared, enc = kem.encapsulate(public)
    return record, Exchange(struct.pack(">BHHH", key_id, kem.kem, 1, aead), enc, shared)


def take(request, secret):
    """A request on the provider's side, with the keys that follow from a vector's secret."""
    header = request[:HEADER]
    kem = KEMS[struct.unpack(">BHHH", header)[1]]
    enc, rest = request[HEADER : HEADER + kem.enc_bytes], request[HEADER + kem.enc_bytes :]
    private = kem.derive(hashlib.sha256(b"lethe vector " + kem.name.encode() + b"\n" + secret).digest())
    return kem, private, Exchange(header, enc, kem.decapsulate(private, enc)), rest


def take_all(request, secret, record):
    kem, private, exchange, rest = take(request, secret)
    cells = exchange.request.read(rest)
    opening = read_opening(kem, cells, record)
    return kem, private, exchange, [opening, *described(cells)]


def read_response(exchange, response):
    nonce, rest = response[: exchange.nonce_bytes], response[exchange.nonce_bytes :]
    return list(described(exchange.response(nonce).read(rest)))


def said(cells):
    return b"".join(bytes.fromhex(one.get("data", "")) for one in cells)


# --- Commands -------------------------------------------------------------------------------------------------------


def vectors(folder):
    paths = sorted(Path(folder).glob("*.json"))
    must(paths, f"no vectors in {folder}")
    for path in paths:
        vector = json.loads(path.read_text())
        record, keys = open_epoch(vector["epoch"], unhex(vector["node"]), vector["now"])
        must(record == unhex(vector["epochHash"]), "hash of the record")
        request = unhex(vector["request"])
        kem, private, exchange, cells = take_all(request, unhex(vector["secret"]), record)
        must(kem.public(private) == keys[kem.kem][1], "the public key of the record")
        must(hashlib.sha256(exchange.enc).hexdigest() == vector["encapsulatedHash"], "hash of the encapsulated key")
        must(cells == vector["requestCells"], "the request's cells")
        must(read_response(exchange, unhex(vector["response"])) == vector["responseCells"], "the response's cells")
        print(f"ok {path.name}")


def exchange(program):
    folder = Path(__file__).parent / "vectors"
    for kem in KEMS.values():
        for aead in CIPHERS:
            for size in (0, 17, 3_000, 100_000):
                we_ask(program, folder, kem, aead, os.urandom(size))
            print(f"ok we ask with {kem.name} and AEAD {aead}")
        they_ask(program, kem)
        print(f"ok they ask with {kem.name}")
    for what, (change, reason) in CHANGES.items():
        ran = we_ask_wrongly(program, folder, change)
        must(ran.returncode != 0 and reason in ran.stderr, f"{what}: {ran.stderr or 'was taken'}")
        print(f"ok refused: {what}")


def request_of(vector, kem, aead, data, change=lambda cells: cells):
    now = vector["now"]
    record, ours = ask(vector["epoch"], unhex(vector["node"]), kem, aead, now)
    cells = [*opening_cells(kem, record, now, "fast", data), cell(KEEP_ALIVE, b""), *data_cells(b"voucher" * 50)]
    sealed = [ours.request.seal(one) for one in change(cells)]
    return ours, ours.front + b"".join(sealed) + ours.request.end()


def run_answer(program, vector, request):
    question = json.dumps({"secret": vector["secret"], "request": request.hex()})
    return subprocess.run([program, "answer"], input=question + "\n", capture_output=True, text=True, timeout=60)


def we_ask(program, folder, kem, aead, data):
    vector = json.loads((folder / f"{kem.name}.json").read_text())
    ours, request = request_of(vector, kem, aead, data)
    ran = run_answer(program, vector, request)
    must(ran.returncode == 0, f"they refused: {ran.stderr}")
    answer = json.loads(ran.stdout)
    must(answer["cells"][0]["data"] == data.hex(), "they read another opening")
    must(said(answer["cells"][1:]) == b"voucher" * 50, "they read other cells")
    cells = read_response(ours, unhex(answer["response"]))
    must(said(cells) == data, "we read another answer")


def with_padding(cells):
    return [cells[0][:-1] + b"\1", *cells[1:]]


def with_other_record(cells):
    return [cells[0][:4] + bytes(32) + cells[0][36:], *cells[1:]]


def with_second_opening(cells):
    return [cells[0], cell(OPENING, bytes(100)), *cells[1:]]


def with_short_cell(cells):
    return [cells[0], cell(DATA, b"x", CELL - 1), *cells[1:]]


def with_long_total(cells):
    return [cells[0][:48] + b"\x11" + cells[0][49:], *cells[1:]]


CHANGES = {
    "padding that is not zero": (with_padding, "Padding"),
    "another epoch record": (with_other_record, "OtherRecord"),
    "a second opening": (with_second_opening, "OutOfTurn"),
    "a cell of another size": (with_short_cell, "ChunkLength"),
    "a total that is not there": (with_long_total, "OpeningLength"),
}


def we_ask_wrongly(program, folder, change):
    vector = json.loads((folder / "x25519.json").read_text())
    _, request = request_of(vector, X25519, 1, b"prompt", change)
    return run_answer(program, vector, request)


def they_ask(program, kem):
    pipe = subprocess.PIPE
    with subprocess.Popen([program, "ask", kem.name], stdin=pipe, stdout=pipe, text=True) as them:
        question = json.loads(them.stdout.readline())
        now = json.loads(question["epoch"]["record"])["notBefore"]
        record, _ = open_epoch(question["epoch"], unhex(question["node"]), now)
        _, _, ours, cells = take_all(unhex(question["request"]), unhex(question["secret"]), record)
        must(said(cells) == b"?" * 10_000 + b"!" * 1_000, "we read something else")
        nonce = os.urandom(ours.nonce_bytes)
        sealer = ours.response(nonce)
        answer = os.urandom(5_000)
        sealed = [sealer.seal(one) for one in [*data_cells(answer), cell(PAD, b"")]]
        response = nonce + b"".join(sealed) + sealer.end()
        them.stdin.write(json.dumps({"response": response.hex()}) + "\n")
        them.stdin.flush()
        must(said(json.loads(them.stdout.readline())["cells"]) == answer, "they read another answer")
    must(them.returncode == 0, "they failed")


def main(arguments):
    match arguments:
        case ["vectors", folder]:
            vectors(folder)
        case ["exchange", program]:
            exchange(program)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
