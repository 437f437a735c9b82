"""Time from a dropped client stream to the backend seeing its connection closed.

    python3 bench/dropped_stream.py target/release/lethe [DROPS]

Starts a chain, a provider in front of a backend that this script is, and a
consumer, each a process of its own; asks, reads the first token, closes the
socket, and waits for the end of the backend's connection. Once with streams
that are silent then, once with busy ones (a chunk each millisecond). Exits
with 1 if the goal for the 99th percentile is missed. Standard library only.
"""

import json
import pathlib
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

GOAL_MS = 20
WARM_UP = 10
PATIENCE_S = 30
GAP_S = 0.001
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"x "}}]}\n\n'
MODELS = b'{"data":[{"id":"drop"}]}'


class Backend:
    """Says one token to each request, then nothing or a chunk each millisecond; tells when a connection ends."""

    def __init__(self):
        self.busy = False
        self.ended = queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection):
        with connection:
            head = self.head(connection)
            if head.startswith(b"GET"):
                answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(MODELS)
                connection.sendall(answer + MODELS)
                return
            connection.sendall(HEAD + CHUNK)
            if self.busy:
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()
            self.until_closed(connection)
            self.ended.put(time.perf_counter())

    @staticmethod
    def head(connection):
        read = b""
        while b"\r\n\r\n" not in read:
            read += connection.recv(65536)
        head, _, rest = read.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(rest) < int(line.split(b":")[1]):
                    rest += connection.recv(65536)
        return head

    @staticmethod
    def talk(connection):
        try:
            while True:
                time.sleep(GAP_S)
                connection.sendall(CHUNK)
        except OSError:
            return

    @staticmethod
    def until_closed(connection):
        try:
            while connection.recv(1):
                pass
        except OSError:
            return


class Role:
    def __init__(self, binary, data, *arguments):
        command = [binary, arguments[0], "--data", str(data), *arguments[1:], "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.ready = json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


def asked(ready):
    """A socket on which the first token was read."""
    host, port = ready["base_url"].split("/")[2].split(":")
    body = json.dumps({"model": "drop", "stream": True, "messages": [{"role": "user", "content": "go"}]}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {ready['api_key']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    client.sendall(head.encode() + body)
    read = b""
    while b'"content"' not in read:
        piece = client.recv(65536)
        assert piece and b'"error"' not in read, read + piece
        read += piece
    return client


def drops(ready, backend, count):
    times_ms = []
    for _ in range(count):
        client = asked(ready)
        begin = time.perf_counter()
        client.close()
        times_ms.append(1000 * (backend.ended.get(timeout=PATIENCE_S) - begin))
    return sorted(times_ms)


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    binary, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    backend, roles, met = Backend(), [], True
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder)
        try:
            roles.append(Role(binary, data / "chain", "chain", "--rpc", "127.0.0.1:0"))
            rpc = ["--rpc-url", roles[0].ready["rpc_url"]]
            sells = ["--model", "drop", "--backend", backend.url, "--endpoint", "127.0.0.1:0"]
            roles.append(Role(binary, data / "provider", "provide", *rpc, *sells))
            roles.append(Role(binary, data / "consumer", "consume", "--direct", *rpc, "--http", "127.0.0.1:0"))
            drops(roles[-1].ready, backend, WARM_UP)
            for busy in (False, True):
                backend.busy = busy
                times_ms = drops(roles[-1].ready, backend, count)
                p50, p99 = statistics.median(times_ms), times_ms[int(0.99 * (count - 1))]
                name = "busy" if busy else "silent"
                print(f"{name} stream: p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {times_ms[-1]:.2f} ms of {count}")
                met = met and p99 <= GOAL_MS
        finally:
            for role in reversed(roles):
                role.stop()
    sys.exit(0 if met else 1)


main()
