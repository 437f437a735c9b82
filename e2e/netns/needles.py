"""Secrets, all the forms in which they might turn up, and the search for them in files and in memory."""

import base64
import json
import pathlib
import random
import string

MARKER_BYTES = 32
# Each is written differently in JSON than in memory.
ODD = '"é\\'

_chance = random.SystemRandom()


def marker():
    """A text of 32 bytes that nobody else has."""
    length = (MARKER_BYTES - len(ODD.encode())) // 2
    half = lambda: "".join(_chance.choices(string.ascii_letters + string.digits, k=length))
    return half() + ODD + half()


def forms(text):
    """Every form, by its name. A half alone is enough: the other may be in the next cell, packet or chunk."""
    found = {}
    for part, piece in [("whole", text), *zip(("first half", "second half"), text.split(ODD))]:
        for name, form in _forms(piece):
            found.setdefault(form, f"{part}, {name}")
    return found


def _forms(text):
    raw = text.encode()
    yield "raw", raw
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON, not ASCII", json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield "JSON twice", json.dumps(json.dumps(text))[3:-3].encode()
    yield "UTF-16LE", text.encode("utf-16-le")
    yield "UTF-16BE", text.encode("utf-16-be")
    for offset in range(3):
        # Only the characters that the text alone decides.
        start, end = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            yield f"{name} at {offset}", encode(bytes(offset) + raw)[start:end]


def forms_of_bytes(raw):
    """The forms of an id or an address that is bytes."""
    hex_ = raw.hex().encode()
    return {raw: "raw", hex_: "hex", hex_.upper(): "HEX", base64.b64encode(raw).rstrip(b"=")[:-1]: "base64"}


def forms_of_address(address):
    """The forms of an IPv4 address: its text, as a host's log has it."""
    return {address.encode(): "text", address.encode("utf-16-le"): "UTF-16LE"}


def search(data, wanted):
    """Which of the forms are in the data, by name."""
    return sorted(name for form, name in wanted.items() if form in data)


def search_folder(folder, wanted):
    """The same in all files of a folder."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            hits = search(path.read_bytes(), wanted)
            if hits:
                found[str(path)] = hits
    return found


def memory(pid):
    """What a process has in memory, where it can write: heaps, stacks, data."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            span, rights, *_ = line.split(None, 2)
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            try:
                mem.seek(start)
                yield mem.read(end - start)
            except OSError:
                # It was given back since the list was read.
                continue


def search_memory(pid, wanted):
    """The same in a process's memory, and how many bytes that was."""
    found, size = set(), 0
    for area in memory(pid):
        size += len(area)
        found.update(search(area, wanted))
    return sorted(found), size
