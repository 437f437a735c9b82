"""Who learns what: chain, provider, two relays and consumers, each on a host of its own, and everything that crosses a
wire recorded. What nobody may learn is searched for everywhere; each search must first find what is there to be found.
"""

import atexit
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import hosts
import needles
from capture import ARP, IPV4, Capture
from check import check, end
from market import Broken, Market

# An answer long enough to look into memories while it runs.
LONG, EVERY_MS = 400, 25
# A dead relay is noticed within the transport's idle time, and then said.
BREAK_S = 15
# Long enough for the consumer to look at the market a few times without one of its relays.
LOOKS_S = 12
PORTS_OF_NAMES = {53, 5353}
SETTLEMENT = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"
DESCRIPTION = "/.well-known/lethe"
RELAYS = ("relay1", "relay2")
PROCESSES = ("chain", *RELAYS)

folder = tempfile.TemporaryDirectory(prefix="lethe-netns-")
path = pathlib.Path(folder.name)
market = Market(sys.argv[1], path, log="trace,lethe=trace")
captures = {}


@atexit.register
def _():
    market.close()
    hosts.remove()
    hosts.forget()


def captured(name, host=hosts.ROUTER):
    captures[name] = Capture(hosts.space(host), path / "captures" / name)
    return captures[name]


def get(host, port, name):
    """What a host's TCP door says, read on that host."""

    def ask():
        connection = http.client.HTTPConnection(hosts.ADDRESSES[host], port, timeout=10)
        connection.request("GET", name)
        return connection.getresponse().read()

    return hosts.inside(host, ask)


def rpc(method, *params):
    host, port = market.chain.said["rpc_url"].removeprefix("http://").split(":")

    def ask():
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"content-type": "application/json"})
        return json.load(connection.getresponse())["result"]

    return hosts.inside("chain", ask)


def endpoints_of(consumer):
    """The keys that a consumer is known by on the wire, as far as its own log says them: five bytes of each."""
    log = market.folder / "logs" / f"{consumer}.log"
    words = log.read_text(errors="replace").split("endpoint{id=")[1:]
    return {word[:10] for word in words}


def forms_of_ids(ids):
    return {form: f"{name} of {id_}" for id_ in ids for form, name in needles.forms_of_bytes(bytes.fromhex(id_)).items()}


def search_files(name, wanted):
    """In a process's log and its data folder."""
    log = market.folder / "logs" / f"{name}.log"
    found = {str(log): needles.search(log.read_bytes(), wanted)}
    found |= needles.search_folder(market.folder / "data" / name, wanted)
    return {file: hits for file, hits in found.items() if hits}


def must_find(hits, what):
    assert hits, f"the search does not find what is there: {what}"


# What the checks look at: the sealed way first, and nothing of a way out.
prompt, answer = needles.marker(), needles.marker()
wanted = needles.forms(prompt) | {form: f"answer: {name}" for form, name in needles.forms(answer).items()}
memories, metrics = {}, {}

hosts.build()
with captured("sealed"), captured("provider inside", "provider"):
    market.open()
    client = market.consumer("consumer").live()
    market.script([answer] * LONG, EVERY_MS)
    stream = client.pieces(prompt)
    assert next(stream) == answer
    processes = {"consumer": client.process, "provider": market.provider, "chain": market.chain, **market.relays}
    memories = {name: needles.search_memory(process.pid, wanted) for name, process in processes.items()}
    said = 1 + sum(piece == answer for piece in stream)
    market.script([answer])
    again = client.ask(prompt)
    metrics["consumer"] = client.request("GET", "/metrics").read()
    for name, process in {**market.relays, "provider": market.provider}.items():
        port = int(process.said["endpoint"].split(":")[1])
        metrics[name] = b"".join(get(name, port, page) for page in ("/", "/metrics", DESCRIPTION))
logs = rpc("eth_getLogs", {"address": SETTLEMENT, "fromBlock": "0x0", "toBlock": "latest"})
# An escrow's first deposit says its whole channel: seven words.
created = [log for log in logs if len(log["data"]) == 2 + 7 * 64]


@check("netns: with no way out and no names, whole answers come through a relay")
def _():
    for host in hosts.ADDRESSES:
        assert "default" not in hosts.routes(host), hosts.routes(host)
    assert said == LONG and again == answer, (said, again)


@check("netns: the search finds the marker in memory, in clear on the wire, and behind the provider")
def _():
    for name in ("consumer", "provider"):
        hits, size = memories[name]
        must_find([hit for hit in hits if "answer" in hit], f"the answer in the memory of the {name}, {size} bytes")
    must_find([hit for hit in memories["consumer"][0] if "answer" not in hit], "the prompt in the consumer's memory")
    hits = needles.search(captures["provider inside"].bytes_of("lo"), wanted)
    assert {"whole, JSON", "answer: whole, JSON"} <= set(hits), hits
    with captured("plain"):
        market.to_backend("POST", "/v1/chat/completions", json.dumps({"x": prompt}), host="consumer")
    for port in map(hosts.port, ("consumer", "provider")):
        hits = needles.search(captures["plain"].bytes_of(port), wanted)
        assert {"whole, JSON", "answer: whole, JSON"} <= set(hits), hits
    encoded = "".join(form.decode("latin-1") for form in wanted).encode("latin-1")
    assert needles.search(encoded, wanted) == sorted(wanted.values())


@check("netns: prompt and answer are on no wire")
def _():
    sealed = captures["sealed"]
    ports = {hosts.port(host) for host in ("chain", "consumer", "relay1", "relay2", "provider")}
    assert set(sealed.interfaces()) == ports and not sealed.missed, (sealed.interfaces(), sealed.missed)
    # A stream of a few hundred cells did cross these.
    assert len(sealed.bytes_of(hosts.port("consumer"))) > LONG * len(answer)
    hits = {port: needles.search(sealed.bytes_of(port), wanted) for port in sealed.interfaces()}
    assert not any(hits.values()), hits


@check("netns: prompt and answer are in no log, no store and no page")
def _():
    hits = {name: search_files(name, wanted) for name in ("chain", "provider", "consumer", *RELAYS)}
    hits |= {f"pages of {name}": needles.search(page, wanted) for name, page in metrics.items()}
    assert all(metrics.values()) and not any(hits.values()), hits


@check("netns: prompt and answer are not in the memory of a relay that carries them, or of the chain")
def _():
    for name in PROCESSES:
        hits, size = memories[name]
        assert size > 2**20 and not hits, (name, size, hits)


def sources(capture, host):
    return {packet.source for packet in captures[capture].of(hosts.port(host)) if packet.ethertype == IPV4}


@check("netns: the provider hears relays and the chain, and never learns where the consumer is")
def _():
    known = {hosts.ADDRESSES[host] for host in ("relay1", "relay2", "chain", "provider")}
    assert sources("sealed", "provider") <= known, sources("sealed", "provider") - known
    ids = endpoints_of("consumer")
    # One key for each guard.
    assert len(ids) >= 2, ids
    secrets = forms_of_ids(ids) | needles.forms_of_address(hosts.ADDRESSES["consumer"])
    wire = captures["sealed"].bytes_of(hosts.port("provider"))
    assert not needles.search(wire, secrets), needles.search(wire, secrets)
    assert not search_files("provider", secrets), search_files("provider", secrets)


with captured("direct"):
    direct = market.consumer("direct", "--direct").live()
    direct.ask(prompt)


@check("netns: with --direct it does learn it, and the search finds that")
def _():
    must_find(hosts.ADDRESSES["consumer"] in sources("direct", "provider"), "the consumer's address at the provider")
    for secrets in (forms_of_ids(endpoints_of("direct")), needles.forms_of_address(hosts.ADDRESSES["consumer"])):
        must_find(search_files("provider", secrets), f"{sorted(secrets.values())} in the provider's log")


@check("netns: what the provider keeps does not tell which wallet funds its payer")
def _():
    wallet = needles.forms_of_bytes(bytes.fromhex(client.payer[2:]))
    must_find(search_files("consumer", wallet), "the wallet in the consumer's own folder")
    hits = search_files("provider", wallet)
    assert not hits, hits


@check("netns: a relay writes down nothing of whom it serves")
def _():
    channels = [bytes.fromhex(log["topics"][1][2:]) for log in created]
    words = [log["data"][2:][at : at + 64] for log in created for at in (0, 64)]
    accounts = [bytes.fromhex(word[24:]) for word in words]
    assert bytes.fromhex(client.payer[2:]) not in accounts, "the wallet itself paid"
    public = {}
    for secret in channels + accounts:
        public |= {form: f"{name} of {secret.hex()}" for form, name in needles.forms_of_bytes(secret).items()}
    must_find(search_files("provider", public), "the channel in the provider's books")
    where = needles.forms_of_address(hosts.ADDRESSES["consumer"]) | forms_of_ids(endpoints_of("consumer"))
    must_find(search_files("consumer", where), "the consumer's address in its own log")
    for name in RELAYS:
        relay = market.relays[name].said["relay"]
        must_find(search_files(name, {relay.lower().encode(): "own", relay.encode(): "own"}), f"the log of {name}")
        assert not search_files(name, public | where), search_files(name, public | where)
        assert not needles.search(metrics[name], public | where), metrics[name]


def strays(name):
    """Packets that no host had a reason to send."""
    known = set(hosts.ADDRESSES.values()) - {hosts.ADDRESSES["trap"]}
    neighbours = set(hosts.ADDRESSES.values()) | {hosts.gate(host) for host in hosts.ADDRESSES}
    for port in captures[name].interfaces():
        for packet in captures[name].of(port):
            if packet.ethertype == ARP:
                is_known = {packet.source, packet.target} <= neighbours and port != hosts.port("trap")
            else:
                is_known = packet.ethertype == IPV4 and {packet.source, packet.target} <= known
            if not is_known or PORTS_OF_NAMES & set(packet.ports or ()):
                yield port, packet.source, packet.target, packet.protocol, packet.ports


# From here on every host has a way out, and it leads into the trap.
for host in hosts.ADDRESSES:
    if host != "trap":
        hosts.way_out(host)


def carrier(stream):
    """The relay that carries this answer: the one that says more by the answer's side."""
    before = {host: hosts.sent_bytes(host) for host in RELAYS}
    for _ in range(LONG // 8):
        next(stream)
    return max(RELAYS, key=lambda host: hosts.sent_bytes(host) - before[host])


def breaks(stream):
    """How long a broken answer took to say so, and what it said."""
    begun = time.monotonic()
    try:
        for _ in stream:
            pass
    except Broken as error:
        return time.monotonic() - begun, str(error)
    raise AssertionError("the answer ended well although its relay was dead")


with captured("way out"):
    market.relays["relay2"].end()
    market.relays["relay2"] = market.relay("relay2", name="relay2 again")
    client = market.consumer("late").live()

    @check("netns: a relay is killed in the middle of an answer, and the client is told")
    def _():
        global dead
        market.script([answer] * LONG, EVERY_MS)
        stream = client.pieces(prompt)
        dead = carrier(stream)
        market.relays[dead].kill()
        seconds, said = breaks(stream)
        assert seconds < BREAK_S, seconds
        print(f"   after {seconds:.1f} s: {said}", file=sys.stderr)

    @check("netns: the next answer comes through the other relay, and so do later ones")
    def _():
        (other,) = set(RELAYS) - {dead}
        market.script([answer] * LONG)
        before = hosts.sent_bytes(other)
        assert client.ask(prompt) == answer * LONG
        assert hosts.sent_bytes(other) - before > 2 * len(answer) * LONG
        time.sleep(LOOKS_S)
        assert client.ask(prompt) == answer * LONG

    @check("netns: a relay that comes back is used again")
    def _():
        market.relays[dead] = market.relay(dead, name=f"{dead} back")
        (other,) = set(RELAYS) - {dead}
        client.live()
        market.relays[other].kill()
        deadline = time.monotonic() + 60
        while True:
            try:
                assert client.ask(prompt) == answer * LONG
                break
            except (Broken, EOFError):
                assert time.monotonic() < deadline
                time.sleep(0.5)


@check("netns: in the end, and after all that broke, prompt and answer are still nowhere")
def _():
    hits = needles.search_folder(market.folder / "logs", wanted) | needles.search_folder(market.folder / "data", wanted)
    for name in ("direct", "way out"):
        for port in captures[name].interfaces():
            hits[f"{name} {port}"] = needles.search(captures[name].bytes_of(port), wanted)
    assert not any(hits.values()), hits
    where = needles.forms_of_address(hosts.ADDRESSES["consumer"])
    for log in (market.folder / "logs").glob("relay*"):
        assert not needles.search(log.read_bytes(), where), log


@check("netns: nobody sends a packet to anywhere else, or asks for a name")
def _():
    for name in ("sealed", "direct", "way out"):
        found = sorted(set(map(str, strays(name))))
        assert not found and captures[name].packets > 100 and not captures[name].missed, (name, found[:20])


@check("netns: if somebody did, it would be seen")
def _():
    def speaks():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"hello", ("192.0.2.7", 9))

    with captured("strays"):
        hosts.inside("relay1", speaks)
        name = hosts.on("consumer", ["timeout", "2", "getent", "hosts", "lethe.example"])
        subprocess.run(name, capture_output=True)
        time.sleep(0.2)
    found = list(strays("strays"))
    must_find([stray for stray in found if stray[2] == "192.0.2.7"], f"a packet to elsewhere: {found}")
    must_find([stray for stray in found if stray[4] and stray[4][1] == 53], f"a question for a name: {found}")
    must_find([stray for stray in found if stray[0] == hosts.port("trap")], f"the trap: {found}")


@check("netns: a provider that is started anew has other keys, so no disk had the old ones")
def _():
    def keys():
        port = int(market.provider.said["endpoint"].split(":")[1])
        described = json.loads(get("provider", port, DESCRIPTION))
        return json.loads(described["epoch"]["record"])

    before = keys()
    market.provider.end()
    market.provider = market.sell("provider again")
    after = keys()
    assert before["epoch"] == after["epoch"], "an epoch ended just now; run it again"
    assert before["node"] == after["node"] and before["keys"] != after["keys"], (before, after)


end()
