"""What a relay adds to the time to the first token, beside what the way itself adds and a raw relay.

usage: latency.py LETHE ROUNDS MS...   MS: one way between any two hosts. Every round asks all four ways in turn.
"""

import atexit
import pathlib
import socket
import statistics
import sys
import tempfile
import time

import hosts
import link
from market import HERE, Market

# About what a sealed request and the first cells of an answer take.
DATAGRAM_BYTES = 1200
SLOW = ("consumer", "provider", "relay1", "relay2")

lethe, rounds = sys.argv[1], int(sys.argv[2])


def measured(ms, folder):
    """Seconds to the first token, by the way that was taken."""
    hosts.build()
    links = [link.slow(host, ms / 2000) for host in SLOW] if ms else []
    market = Market(lethe, folder)
    try:
        market.open()
        echo = market.start("echo", "provider", sys.executable, HERE / "raw.py", hosts.ADDRESSES["provider"])
        raw = (sys.executable, HERE / "raw.py", hosts.ADDRESSES["relay1"], hosts.ADDRESSES["provider"], echo.first)
        raw = market.start("raw", "relay1", *raw)
        ways = {
            "straight": first_token(market.consumer("direct", "--direct").live()),
            "relay": first_token(market.consumer("consumer").live()),
            "raw straight": there_and_back(hosts.ADDRESSES["provider"], int(echo.first)),
            "raw relay": there_and_back(hosts.ADDRESSES["relay1"], int(raw.first)),
        }
        market.script(["x"])
        for way in ways.values():
            for _ in range(5):
                way()  # dials, deposits
        times = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(way())
        return times
    finally:
        market.close()
        for process in links:
            process.kill()
            process.wait()
        hosts.remove()


def first_token(client):
    def once():
        begun = time.perf_counter()
        stream = client.pieces("hello")
        next(stream)
        first = time.perf_counter() - begun
        assert not list(stream)
        return first

    return once


def there_and_back(address, port):
    out = hosts.inside("consumer", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    out.settimeout(5)
    out.connect((address, port))

    def once():
        begun = time.perf_counter()
        out.send(bytes(DATAGRAM_BYTES))
        out.recv(DATAGRAM_BYTES)
        return time.perf_counter() - begun

    return once


def at(share, times):
    return statistics.quantiles(times, n=100, method="inclusive")[share - 1] * 1000


atexit.register(hosts.forget)
print("| one way between two hosts | way | p50 | p99 | added by the relay, p50 / p99 | of that the way, p50 |")
print("|---|---|---|---|---|---|")
for ms in map(float, sys.argv[3:]):
    with tempfile.TemporaryDirectory(prefix="lethe-latency-") as folder:
        times = measured(ms, pathlib.Path(folder))
    for kind, straight, relay in (("first token", "straight", "relay"), ("raw datagram", "raw straight", "raw relay")):
        added = [at(share, times[relay]) - at(share, times[straight]) for share in (50, 99)]
        for name in (straight, relay):
            row = f"| {ms:g} ms | {kind}, {name.removeprefix('raw ')} | {at(50, times[name]):.1f} ms | {at(99, times[name]):.1f} ms"
            tail = f" | {added[0]:.1f} / {added[1]:.1f} ms | {2 * ms:g} ms |" if name == relay else " | | |"
            print(row + tail, flush=True)
