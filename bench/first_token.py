"""Warm start to the first paid token, and idle memory, of `lethe up`.

    python3 bench/first_token.py target/release/lethe [ROUNDS]

Starts the market on a data folder of its own once, cold, then ROUNDS times
warm: the time from exec to the first token of a streamed, paid answer. Memory
is the process' resident set ten seconds after an answer. Standard library only.
"""

import http.client
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

IDLE_S = 10


def started(binary, data):
    begin = time.monotonic()
    command = [binary, "up", "--data", data, "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    ready = json.loads(process.stdout.readline())
    return process, ready, begin, time.monotonic() - begin


def first_token(ready, begin):
    host = ready["base_url"].split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=60)
    body = {"model": "lethe-demo", "stream": True, "messages": [{"role": "user", "content": "What is a glacier?"}]}
    headers = {"Authorization": f"Bearer {ready['api_key']}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    first = None
    for line in response:
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            first = first or time.monotonic() - begin
    return first


def resident_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    binary, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as data:
        rows = []
        for turn in range(rounds + 1):
            process, ready, begin, ready_s = started(binary, data)
            try:
                token_s = first_token(ready, begin)
                if turn == rounds:
                    time.sleep(IDLE_S)
                    print(f"idle memory of the whole market: {resident_mb(process.pid):.0f} MB resident")
            finally:
                process.terminate()
                process.wait(timeout=60)
            name = "cold" if turn == 0 else "warm"
            print(f"{name}: ready after {ready_s:.2f} s, first paid token after {token_s:.2f} s")
            if turn:
                rows.append(token_s)
        print(f"warm start to first paid token, median of {rounds}: {statistics.median(rows):.2f} s")


main()
