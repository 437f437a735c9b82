"""Two homes: a consumer and a provider, each behind a router that translates addresses and lets nothing in. Chain and
relays are in the open, the provider waits at two of the three relays.
"""

import atexit
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import hosts
import nat
from check import check, end
from market import Broken, Market, MODEL

INSIDE = {"consumer": "192.168.1.20", "provider": "192.168.1.30"}
RELAYS = ("relay1", "relay2", "relay3")
# Where the provider waits.
HERE = RELAYS[:2]
ENDPOINT_PORT, NODE_PORT = 3334, 4434
LONG, EVERY_MS = 200, 10
PIECE = "a word "
# A dead relay is noticed within the transport's idle time, and then another one is asked.
ON_S = 20
# The longest pause before a provider dials again is 30 s; after a loss it begins with half a second.
BACK_S = 20

folder = tempfile.TemporaryDirectory(prefix="lethe-homes-")
path = pathlib.Path(folder.name)
market = Market(sys.argv[1], path)
routers = []


@atexit.register
def _():
    market.close()
    for router in routers:
        router.terminate()
        router.wait()
    hosts.remove()
    hosts.forget()


def relay(host, name=None):
    address = hosts.ADDRESSES[host]
    at = ("--endpoint", f"{address}:{ENDPOINT_PORT}", "--listen", f"{address}:{NODE_PORT}")
    return market.role("relay", host, *market.network, *at, name=name)


def peers(home, what):
    """Whom a home spoke to, or who wanted to come in."""
    lines = (path / f"{home}.nat").read_text().split("\n")
    return {line.split()[1].split(":")[0] for line in lines if line.startswith(what)}


def seen(host):
    """What a relay tells of the provider at its door."""

    def ask():
        with socket.create_connection((hosts.ADDRESSES[host], ENDPOINT_PORT), timeout=5) as door:
            name = f"/.well-known/lethe/{market.provider.said['provider'].lower()}"
            door.sendall(f"GET {name} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: door.recv(1 << 16), b""))

    head, _, body = hosts.inside("chain", ask).partition(b"\r\n\r\n")
    return json.loads(json.loads(body)["record"]) if b" 200 " in head.split(b"\r\n")[0] else None


def earned():
    """What the provider has of what it sold, on the chain."""
    where = [sys.argv[1], "where", "--data", path / "data" / "provider", "--json"]
    said = subprocess.run(hosts.on("provider", where), capture_output=True, text=True, check=True).stdout
    return sum(int(place["amount"]) for place in json.loads(said)["places"] if place["kind"] == "earned")


def until(found, within, what):
    deadline = time.monotonic() + within
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what} within {within} s"
        time.sleep(0.1)
    return value


def answered(client):
    """Asks until an answer comes whole; how long that took, and what else was said."""
    begun, said = time.monotonic(), []
    while time.monotonic() - begun < ON_S:
        try:
            assert client.ask("again") == PIECE * LONG
            return time.monotonic() - begun, said
        except (Broken, EOFError) as error:
            said.append(str(error))
            time.sleep(0.2)
    raise AssertionError(f"no answer within {ON_S} s: {said}")


hosts.build()
for home, address in INSIDE.items():
    routers.append(nat.home(home, address, path / f"{home}.nat"))
market.chain = market.role("chain", "chain", "--rpc", f"{hosts.ADDRESSES['chain']}:0")
market.network = ("--rpc-url", market.chain.said["rpc_url"])
market.relays = {host: relay(host) for host in RELAYS}
backend = market.start("backend", "provider", sys.executable, pathlib.Path(__file__).parent / "backend.py")
market.backend = int(backend.first)


def to_backend(body):
    command = ["import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode())).read()"]
    url = f"http://127.0.0.1:{market.backend}/script"
    subprocess.run(hosts.on("provider", [sys.executable, "-c", *command, url, body]), check=True)


to_backend(json.dumps({"pieces": [PIECE] * LONG, "every_ms": EVERY_MS}))
behind = [flag for host in HERE for flag in ("--behind", f"{hosts.ADDRESSES[host]}:{ENDPOINT_PORT}")]
offer = ("--model", MODEL, "--backend", f"http://127.0.0.1:{market.backend}/v1", "--slots", "8", "--no-probe")
market.provider = market.role("provide", "provider", *market.network, *offer, *behind, "--claim-every", "1")
client = market.consumer("consumer").live()


@check("homes: a paid answer streams from one home to the other")
def _():
    before = earned()
    pieces = list(client.pieces("hello"))
    assert "".join(pieces) == PIECE * LONG and len(pieces) > LONG // 4, len(pieces)
    until(lambda: earned() > before, 20, "the provider has claimed it")


@check("homes: neither home spoke to the other, and nobody dialled into one")
def _():
    for home, other in (("consumer", "provider"), ("provider", "consumer")):
        assert hosts.ADDRESSES[other] not in peers(home, "out"), peers(home, "out")
        assert peers(home, "out") <= {hosts.ADDRESSES[host] for host in ("chain", *RELAYS)}, peers(home, "out")
        assert not peers(home, "no"), peers(home, "no")


@check("homes: the record names the two relays, and no address")
def _():
    record = until(lambda: (told := seen(HERE[0])) and len(told["relays"]) == 2 and told, BACK_S, "two relays")
    assert record["addresses"] == [] and not seen(RELAYS[2]), record
    assert record == seen(HERE[1])


@check("homes: who dials the provider's router is not let in")
def _():
    def knock():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.sendto(b"hello", (hosts.ADDRESSES["provider"], nat.FIRST_PORT))

    hosts.inside("trap", knock)
    until(lambda: peers("provider", "no"), 5, "a packet that was not let in")


@check("homes: a relay at which the provider waits is killed, and answers come through the other one")
def _():
    market.relays["relay1"].kill()
    seconds, said = answered(client)
    print(f"   after {seconds:.1f} s: {said}", file=sys.stderr)
    until(lambda: (told := seen("relay2")) and len(told["relays"]) == 1, BACK_S, "the record names the one that is left")


@check("homes: it comes back, the other one is killed, and answers go on")
def _():
    market.relays["relay1"] = relay("relay1", name="relay1 again")
    until(lambda: seen("relay1"), BACK_S, "the provider waits again")
    until(lambda: (told := seen("relay1")) and len(told["relays"]) == 2, BACK_S, "the record names both")
    client.live()
    market.relays["relay2"].kill()
    seconds, said = answered(client)
    print(f"   after {seconds:.1f} s: {said}", file=sys.stderr)


end()
