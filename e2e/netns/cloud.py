"""A machine in a cloud: it has a private address, and a public one is passed on to it. On it are a relay and a provider,
which do not reach themselves at the public address; another relay is elsewhere.
"""

import atexit
import json
import pathlib
import subprocess
import sys
import tempfile

import hosts
import nat
from check import check, end
from market import Market, MODEL

BOX, INSIDE = "provider", "172.16.0.2"
PUBLIC = hosts.ADDRESSES[BOX]
RELAY_PORT, SHOP_PORT = 3334, 3333
PIECES = 50
PIECE = "a word "

folder = tempfile.TemporaryDirectory(prefix="lethe-cloud-")
path = pathlib.Path(folder.name)
hairpin = path / "hairpin"
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


def passed_on(port):
    return "--endpoint", f"{PUBLIC}:{port}", "--listen", f"0.0.0.0:{port}"


def doctor():
    """What the doctor says of where the shop is."""
    command = hosts.on(BOX, [sys.argv[1], "doctor", "--data", path / "data" / "shop", "--json"])
    said = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return [one for one in said["checks"] if one["name"] == "endpoint"]


hosts.build()
routers.append(nat.cloud(BOX, INSIDE, hairpin))
market.chain = market.role("chain", "chain", "--rpc", f"{hosts.ADDRESSES['chain']}:0")
market.network = ("--rpc-url", market.chain.said["rpc_url"])
elsewhere = market.relay("relay1")
market.role("relay", BOX, *market.network, *passed_on(RELAY_PORT), name="relay2")
backend = market.start("backend", BOX, sys.executable, pathlib.Path(__file__).parent / "backend.py")
script = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode())).read()"
to_backend = [sys.executable, "-c", script, f"http://127.0.0.1:{int(backend.first)}/script"]
subprocess.run(hosts.on(BOX, [*to_backend, json.dumps({"pieces": [PIECE] * PIECES})]), check=True)
offer = ("--model", MODEL, "--backend", f"http://127.0.0.1:{int(backend.first)}/v1", "--no-probe")
market.role("provide", BOX, *market.network, *offer, *passed_on(SHOP_PORT), name="shop")
client = market.consumer("consumer").live()


@check("cloud: a provider that does not reach its own public address is sold by both relays, the one beside it too")
def _():
    assert client.ask("hello") == PIECE * PIECES


@check("cloud: the other relay is killed, and the very next answer comes through the one beside it")
def _():
    elsewhere.kill()
    assert client.ask("again") == PIECE * PIECES


@check("cloud: the doctor says what it means that the machine does not reach itself, and nothing where it does")
def _():
    (found,) = doctor()
    assert found["verdict"] == "warn" and PUBLIC in found["found"] and "hairpin" in found["do"], found
    hairpin.touch()
    (found,) = doctor()
    assert found["verdict"] == "ok", found


end()
