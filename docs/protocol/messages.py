#!/usr/bin/env python3
"""A second implementation of what is said within a sealed exchange, written from section 10 of wire.md.

    messages.py FILE     every message of messages.json, read, compared with its fields, and written again
"""

import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# --- postcard: each kind reads (value, rest) and writes bytes; values are as JSON has them ------------------------------


class Varint:
    def __init__(self, show=lambda value: value, value=int):
        self.show, self.value = show, value

    def read(self, data):
        number = shift = 0
        for index, byte in enumerate(data):
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self.show(number), data[index + 1 :]
        raise ValueError("a varint without an end")

    def write(self, value):
        number, out = self.value(value), b""
        while number >= 0x80:
            out += bytes([number & 0x7F | 0x80])
            number >>= 7
        return out + bytes([number])


class Bytes:
    """Behind their length; `show` as JSON has them."""

    def __init__(self, show, value):
        self.show, self.value = show, value

    def read(self, data):
        length, data = Varint().read(data)
        if len(data) < length:
            raise ValueError("cut short")
        return self.show(data[:length]), data[length:]

    def write(self, value):
        raw = self.value(value)
        return Varint().write(len(raw)) + raw


class Token:
    """40 bytes without a length, in JSON two arrays of 20."""

    def read(self, data):
        return [list(data[:20]), list(data[20:40])], data[40:]

    def write(self, value):
        return bytes(value[0] + value[1])


class Option:
    def __init__(self, of):
        self.of = of

    def read(self, data):
        return self.of.read(data[1:]) if data[0] else (None, data[1:])

    def write(self, value):
        return b"\0" if value is None else b"\1" + self.of.write(value)


class List:
    def __init__(self, of):
        self.of = of

    def read(self, data):
        count, data = Varint().read(data)
        values = []
        for _ in range(count):
            value, data = self.of.read(data)
            values.append(value)
        return values, data

    def write(self, values):
        return Varint().write(len(values)) + b"".join(map(self.of.write, values))


class Struct:
    def __init__(self, **fields):
        self.fields = fields

    def read(self, data):
        values = {}
        for name, kind in self.fields.items():
            values[name], data = kind.read(data)
        return values, data

    def write(self, value):
        return b"".join(kind.write(value[name]) for name, kind in self.fields.items())


class Enum:
    """By the index of the variant; None: a variant without fields."""

    def __init__(self, **variants):
        self.variants = list(variants.items())

    def read(self, data):
        index, data = Varint().read(data)
        name, kind = self.variants[index]
        if kind is None:
            return name, data
        value, data = kind.read(data)
        return {name: value}, data

    def write(self, value):
        name, inner = (value, None) if isinstance(value, str) else next(iter(value.items()))
        index = [known for known, _ in self.variants].index(name)
        kind = self.variants[index][1]
        return Varint().write(index) + (kind.write(inner) if kind else b"")


def words(*names):
    return Enum(**{name: None for name in names})


HEX = Bytes(lambda raw: "0x" + raw.hex(), lambda text: bytes.fromhex(text[2:]))
TEXT = Bytes(lambda raw: raw.decode(), str.encode)
RAW = Bytes(list, bytes)
NUMBER, AMOUNT = Varint(), Varint(str)


class Signature:
    """`r` and `s` of 32 bytes, the parity in 8."""

    def read(self, data):
        (r, data), (s, data), (parity, data) = self._three(data)
        number = hex(int(parity, 16))
        return {"r": hex(int(r, 16)), "s": hex(int(s, 16)), "yParity": number, "v": number}, data

    @staticmethod
    def _three(data):
        found = []
        for _ in range(3):
            value, data = HEX.read(data)
            found.append((value, data))
        return found

    def write(self, value):
        part = lambda name, size: HEX.write("0x" + int(value[name], 16).to_bytes(size, "big").hex())
        return part("r", 32) + part("s", 32) + part("yParity", 8)


# --- The messages ------------------------------------------------------------------------------------------------------

CHANNEL = Struct(
    payer=HEX, payer_authorizer=HEX, receiver=HEX, receiver_authorizer=HEX, token=HEX, withdraw_delay_s=NUMBER, salt=HEX
)
RATES = Struct(input_per_million=AMOUNT, output_per_million=AMOUNT)
VOUCHER = Struct(voucher=Struct(channel=HEX, ceiling=AMOUNT), signature=Signature())
RECEIPT = Struct(
    request=HEX,
    channel=HEX,
    sequence=NUMBER,
    model=HEX,
    rates=RATES,
    upstream=words("own-engine", "third-party"),
    input_tokens=NUMBER,
    output_tokens=NUMBER,
    amount=AMOUNT,
    charged_total=AMOUNT,
    outcome=words("complete", "cancelled", "failed"),
    issued_at=NUMBER,
)
SIGNED_RECEIPT = Struct(receipt=RECEIPT, signature=TEXT)
ASK = Enum(
    Infer=Struct(request=HEX, channel=CHANNEL, voucher=VOUCHER, model=HEX, rates=RATES, body=RAW, signature=Signature()),
    Receipts=Struct(channel=HEX, after=NUMBER, signature=Signature()),
)
FROM_CONSUMER = Enum(Pay=Struct(voucher=VOUCHER, read_tokens=NUMBER), Leave=None)
REASON = words("Busy", "Payment", "Quote", "Model", "Request", "Backend", "Unavailable", "Protocol")
FROM_PROVIDER = Enum(
    Refused=Struct(reason=REASON, message=TEXT, retry_after_ms=Option(NUMBER)),
    Begin=Struct(tokens=List(Token())),
    Chunk=Struct(tokens=NUMBER, json=RAW),
    End=Struct(
        receipt=SIGNED_RECEIPT,
        failure=Option(Struct(kind=words("Backend", "Unpaid", "Stopping"), message=TEXT)),
    ),
    Receipts=Struct(receipts=List(SIGNED_RECEIPT), running=NUMBER),
)


def receipt_bytes(receipt):
    """What the node's key signs."""
    raw = lambda name: bytes.fromhex(receipt[name][2:])
    number = lambda value, size: int(value).to_bytes(size, "big")
    return b"".join(
        [
            b"lethe receipt v1\n",
            raw("request"),
            raw("channel"),
            number(receipt["sequence"], 8),
            raw("model"),
            number(receipt["rates"]["input_per_million"], 16),
            number(receipt["rates"]["output_per_million"], 16),
            number(["own-engine", "third-party"].index(receipt["upstream"]), 1),
            number(receipt["input_tokens"], 4),
            number(receipt["output_tokens"], 4),
            number(receipt["amount"], 16),
            number(receipt["charged_total"], 16),
            number(["complete", "cancelled", "failed"].index(receipt["outcome"]), 1),
            number(receipt["issued_at"], 8),
        ]
    )


def kind_of(message):
    name = message["fields"] if isinstance(message["fields"], str) else next(iter(message["fields"]))
    if message["from"] == "provider":
        return name, FROM_PROVIDER
    return name, ASK if name in ("Infer", "Receipts") else FROM_CONSUMER


def main(path):
    with open(path) as file:
        published = json.load(file)
    node = Ed25519PublicKey.from_public_bytes(bytes.fromhex(published["nodeId"][2:]))
    for message in published["messages"]:
        name, kind = kind_of(message)
        data = bytes.fromhex(message["bytes"][2:])
        value, rest = kind.read(data)
        assert value == message["fields"] and not rest, (value, message["fields"])
        assert kind.write(message["fields"]) == data, name
        if name == "End":
            signed = value["End"]["receipt"]
            said = receipt_bytes(signed["receipt"])
            assert "0x" + said.hex() == published["receiptBytes"], said.hex()
            node.verify(bytes.fromhex(signed["signature"][2:]), said)
        print(f"ok {name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
