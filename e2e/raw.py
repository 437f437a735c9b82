"""What no client sends: bytes by hand to the gateway and to the chain."""

import json
import socket
import threading
import time
from urllib.parse import urlsplit

from check import API_KEY, BASE_URL, RPC_URL, check, end

# The gateway gives a request's head 30 s.
HEAD_S = 30
LONG_BYTES = 100 * 1024 * 1024

gateway, chain = urlsplit(BASE_URL), urlsplit(RPC_URL)


def connect(url, seconds=10):
    return socket.create_connection((url.hostname, url.port), timeout=seconds)


def head(url, start, *headers):
    lines = [start, f"Host: {url.netloc}", f"Authorization: Bearer {API_KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def read(peer):
    """Status and body of the one answer on a connection."""
    stream = peer.makefile("rb")
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline().strip()):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, json.loads(stream.read(length))


def post(url, path, body, *headers):
    with connect(url) as peer:
        announced = headers or (f"Content-Length: {len(body)}",)
        peer.sendall(head(url, f"POST {path} HTTP/1.1", "Content-Type: application/json", *announced) + body)
        return read(peer)


class Loris(threading.Thread):
    """Sends half a head and waits until it is cut off."""

    def __init__(self):
        super().__init__(daemon=True)
        self.took = None

    def run(self):
        begun = time.monotonic()
        with connect(gateway, HEAD_S + 20) as peer:
            peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            while peer.recv(4096):
                pass
        self.took = time.monotonic() - begun


loris = Loris()
loris.start()


@check("raw: what is not JSON is refused with where it stops being JSON")
def _():
    status, body = post(gateway, "/v1/chat/completions", b'{"model": "lethe-demo", bad')
    assert status == 400 and "line 1" in body["error"]["message"], (status, body)


@check("raw: a wrong type is refused by the field's name")
def _():
    status, body = post(gateway, "/v1/chat/completions", b'{"model": "lethe-demo", "messages": "hello"}')
    assert status == 400 and body["error"]["param"] == "messages", (status, body)


@check("raw: 100,000 brackets are refused")
def _():
    status, body = post(gateway, "/v1/chat/completions", b"[" * 100_000)
    assert status == 400, (status, body)


@check("raw: an announced body of 100 MB is refused before it is sent")
def _():
    begun = time.monotonic()
    status, body = post(gateway, "/v1/chat/completions", b"", f"Content-Length: {LONG_BYTES}")
    assert status == 413 and body["error"]["code"] == "body_too_large", (status, body)
    assert time.monotonic() - begun < 3, time.monotonic() - begun


@check("raw: a body of 100 MB that was not announced is refused on the way")
def _():
    piece = b"x" * 65536
    framed = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    with connect(gateway, 30) as peer:
        peer.sendall(head(gateway, "POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked"))
        sent = 0
        try:
            while sent < LONG_BYTES:
                peer.sendall(framed)
                sent += len(piece)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        try:
            status, _ = read(peer)
        except ConnectionResetError as error:
            raise AssertionError(f"reset after {sent} bytes, before the answer could be read") from error
    assert status == 413, status


@check("raw: an unknown path is refused with the known ones")
def _():
    with connect(gateway) as peer:
        peer.sendall(head(gateway, "GET /v1/nothing HTTP/1.1"))
        status, body = read(peer)
    assert status == 404 and "/v1/chat/completions" in body["error"]["message"], (status, body)


@check("raw: a foreign name in Host is refused")
def _():
    with connect(gateway) as peer:
        peer.sendall(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        status, body = read(peer)
    assert status == 403 and "evil.example" in body["error"]["message"], (status, body)


@check("raw: a page from elsewhere is refused")
def _():
    with connect(gateway) as peer:
        peer.sendall(head(gateway, "GET /v1/models HTTP/1.1", "Origin: https://evil.example"))
        status, body = read(peer)
    assert status == 403 and "evil.example" in body["error"]["message"], (status, body)


@check("raw: no HTTP at all ends the connection")
def _():
    with connect(gateway) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64))
        answer = peer.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer


@check("raw: the chain refuses what is not JSON, unknown methods and cheats")
def _():
    status, body = post(chain, "/", b"{bad")
    assert status < 500 and body["error"]["code"] == -32700, (status, body)
    for method in ("eth_nothing", "anvil_setBalance"):
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": ["0x" + "00" * 20, "0x1"]})
        status, body = post(chain, "/", call.encode())
        assert body["error"]["code"] == -32601 and method in body["error"]["message"], (status, body)


@check("raw: after all that it still answers")
def _():
    body = b'{"model": "lethe-demo", "messages": [{"role": "user", "content": "What is a glacier?"}]}'
    status, body = post(gateway, "/v1/chat/completions", body)
    assert status == 200 and body["lethe"]["outcome"] == "complete", (status, body)


@check(f"raw: half a head is cut off after {HEAD_S} s")
def _():
    loris.join(HEAD_S + 15)
    assert loris.took is not None, "still connected"
    assert loris.took > HEAD_S - 5, loris.took


end()
