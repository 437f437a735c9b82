"""Paid streams through a relay that is under attack, beside the same streams in peace, and what a relay costs.

    cargo build --release --bins --examples
    cargo build --release --manifest-path bench/load/Cargo.toml --target-dir target
    python3 bench/flood.py target/release

`--small` is for CI, on the binaries of `cargo test`: a tenth of it, and it fails if a stream is not whole or the relay had
more than 300 MB.

Chain, provider, two relays and a consumer run as processes of their own on the loopback; so do the attackers
(`crates/transport/examples/flood`), at the lowest priority (`nice 19`), since on one machine they would otherwise take the
victims' processor time rather than attack them. Each attack has a control beside it: processes that burn as much processor
time at the same priority and send nothing. Printed: the time between two tokens of paid streams, and the most memory that
relay and provider had. Then the relay's processor time per cell, beside a raw TCP relay of the same chunks.

Standard library only.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from cpu_per_token import MODEL, SETTLE_S, Town, cpu_s

# Paid streams at a time, tokens of each, tokens per second of each.
PAID = (8, 1000, 50)
KEYS = 1000
JUNK_PER_SECOND = 20_000
# The smallest size of a sealed request, and less than one.
JUNK_BYTES = (2048, 64)
HALF_OPEN = 50_000
ATTACK_S = 20
SMALL_MB_MAX = 300
# Streams, tokens, pace for the cost of a cell.
COST = [(8, 500, 50), (8, 4000, 0)]
RELAYS = ("one", "two")


class Relayed(Town):
    """The same processes, with two relays between consumer and provider."""

    def __init__(self, binaries, folder, stack):
        self.load, self.lethe, self.folder, self.stack = binaries / "load", binaries / "lethe", folder, stack
        _, self.backend = self.start(self.load, "backend")
        self.raw, self.raw_at = self.start(self.load, "relay", self.backend)
        _, chain = self.role("chain", "--rpc", "127.0.0.1:0")
        market = ["--rpc-url", chain["rpc_url"]]
        backend = ["--model", MODEL, "--backend", f"http://{self.backend}/v1", "--endpoint", "127.0.0.1:0"]
        self.provider, provider = self.role("provide", *market, *backend, "--slots", "64", "--queue", "64")
        self.provider_at = provider["endpoint"]
        self.relays, self.relays_at = {}, {}
        for name in RELAYS:
            self.relays[name], said = self.role("relay", *market, "--endpoint", "127.0.0.1:0", folder=name)
            self.relays_at[name] = said["endpoint"]
        self.consumer, gateway = self.role("consume", *market, "--http", "127.0.0.1:0")
        self.key, self.gateway_at = gateway["api_key"], gateway["base_url"].split("/")[2]

    def role(self, name, *flags, folder=None):
        process, line = self.start(self.lethe, name, "--data", self.folder / (folder or name), *flags, "--json")
        return process, json.loads(line)

    def carrier(self):
        """The relay that carries the consumer's streams."""
        before = {name: cpu_s(process) for name, process in self.relays.items()}
        self.client(self.gateway_at, *COST[0])
        return max(before, key=lambda name: cpu_s(self.relays[name]) - before[name])


def memory_mb(process, field):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024


def peak_of(processes, during):
    """The most that each had, looked at while something runs."""
    peaks = {name: 0.0 for name in processes}
    over = threading.Event()

    def look():
        while not over.wait(0.2):
            for name, process in processes.items():
                peaks[name] = max(peaks[name], memory_mb(process, "VmRSS"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return during(), peaks
    finally:
        over.set()
        looking.join()


def attack(command):
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(19))


def burner():
    return attack([sys.executable, "-c", "while True: pass"])


def row(town, carrier, name, attackers, warm_s, paid=PAID):
    """Paid streams while the attackers run."""
    time.sleep(warm_s)
    victims = {"relay": town.relays[carrier], "provider": town.provider}
    came, peaks = peak_of(victims, lambda: town.client(town.gateway_at, *paid))
    said = []
    for attacker in attackers:
        if attacker.args[0] == sys.executable:
            attacker.kill()
        said.append(attacker.communicate()[0].strip())
        if attacker.args[0] != sys.executable and attacker.returncode:
            raise RuntimeError("the attacker failed")
    print(
        f"{name:14} {came['gap_p50_ms']:8.1f} {came['gap_p99_ms']:8.1f} {came['gap_max_ms']:8.1f}"
        f" {peaks['relay']:8.0f} {peaks['provider']:9.0f}   {' '.join(said)}",
        flush=True,
    )
    return peaks["relay"]


def small(town, carrier, flood):
    """A tenth of the attacks. A stream that is not whole ends the program."""
    paid = (4, 500, 50)
    relay_at = town.relays_at[carrier]
    print("               p50      p99      max    relay  provider   the attackers say")
    peaks = [row(town, carrier, "in peace", [], 0, paid)]
    junk = attack([flood, "junk", relay_at, town.provider_at, KEYS // 10, JUNK_PER_SECOND // 10, ATTACK_S, JUNK_BYTES[0]])
    peaks.append(row(town, carrier, "junk", [junk], 5, paid))
    half = attack([flood, "half-open", relay_at, HALF_OPEN // 10 // ATTACK_S, ATTACK_S])
    peaks.append(row(town, carrier, "half-open", [half], 0, paid))
    peaks.append(row(town, carrier, "after it", [], 1, paid))
    if max(peaks) > SMALL_MB_MAX:
        sys.exit(f"the relay had {max(peaks):.0f} MB, at most {SMALL_MB_MAX} are allowed")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    binaries = pathlib.Path(sys.argv[1])
    flood = binaries / "examples" / "flood"
    os.environ.setdefault("LETHE_LOG", "warn")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        town = Relayed(binaries, pathlib.Path(folder), stack)
        town.answers()
        carrier = town.carrier()
        if "--small" in sys.argv:
            small(town, carrier, flood)
            return
        relay_at, cores = town.relays_at[carrier], os.cpu_count()
        print(f"{PAID[0]} paid streams of {PAID[2]} tokens per second through a relay, ms between two tokens, MB:")
        print("               p50      p99      max    relay  provider   the attackers say")
        row(town, carrier, "in peace", [], 0)
        row(town, carrier, "control", [burner() for _ in range(cores)], 0)
        # Dialling with a thousand keys takes its time; the streams begin when it is over.
        for size in JUNK_BYTES:
            junk = attack([flood, "junk", relay_at, town.provider_at, KEYS, JUNK_PER_SECOND, 2 * ATTACK_S, size])
            row(town, carrier, f"junk, {size} B", [junk], 25)
            row(town, carrier, "after it", [], 1)
        half = attack([flood, "half-open", relay_at, HALF_OPEN // ATTACK_S, ATTACK_S])
        row(town, carrier, "half-open", [half], 0)
        row(town, carrier, "after it", [], 1)

        print("processor time per cell, µs:   raw relay      relay")
        for run in COST:
            costs = []
            for target, process in ((town.raw_at, town.raw), (town.gateway_at, town.relays[carrier])):
                before = cpu_s(process)
                came = town.client(target, *run)
                time.sleep(SETTLE_S)
                costs.append(1e6 * (cpu_s(process) - before) / came["tokens"])
            pace = f"{run[2]}/s" if run[2] else "flat out"
            print(f"{run[0]:2} streams {pace:>10} {costs[0]:18.1f} {costs[1]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
