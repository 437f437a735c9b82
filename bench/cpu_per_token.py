"""Processor time per streamed token, of the market and of a raw TCP relay.

    cargo build --release
    cargo build --release --manifest-path bench/load/Cargo.toml --target-dir target
    python3 bench/cpu_per_token.py target/release [ROUNDS]

Chain, provider (`lethe provide`) and consumer with its gateway (`lethe
consume`) run as processes of their own, QUIC between the last two over the
loopback; so does the relay. Both stand between the same backend and the same
client (`load`), which are not counted. One token is one event and one write of
the backend. In every round the relay and the market take turns; the medians
are printed.

What is counted is user and system time of the processes, as the kernel's
per-process clock has it, from before the first request until all have ended:
the signing, the journals with their fsyncs, and what the processes do beside
(`idle`, printed for itself) are in it. Standard library only.
"""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

MODEL = "scripted"
ROUNDS = 3
IDLE_S = 10
# Streams at a time, tokens of each, tokens per second of each (0: flat out).
RUNS = [(1, 500, 50), (8, 500, 50), (32, 500, 50), (1, 8000, 0), (8, 4000, 0), (32, 2000, 0)]
# After a run, for what is booked when an answer has ended.
SETTLE_S = 0.5


def cpu_s(process):
    """The processor time of a process and all its threads, those that ended too."""
    cpu_clock_of_process = 2  # CPUCLOCK_SCHED, see clock_getcpuclockid(3)
    return time.clock_gettime((~process.pid << 3) | cpu_clock_of_process)


class Town:
    """All processes, until the stack that holds them is closed."""

    def __init__(self, binaries, folder, stack):
        self.load, self.lethe, self.folder, self.stack = binaries / "load", binaries / "lethe", folder, stack
        _, self.backend = self.start(self.load, "backend")
        self.relay, self.relay_at = self.start(self.load, "relay", self.backend)
        _, chain = self.role("chain", "--rpc", "127.0.0.1:0")
        market = ["--rpc-url", chain["rpc_url"]]
        backend = ["--model", MODEL, "--backend", f"http://{self.backend}/v1", "--endpoint", "127.0.0.1:0"]
        self.provider, _ = self.role("provide", *market, *backend, "--slots", "64", "--queue", "64")
        self.consumer, gateway = self.role("consume", "--direct", *market, "--http", "127.0.0.1:0")
        self.key, self.gateway_at = gateway["api_key"], gateway["base_url"].split("/")[2]

    def start(self, *command):
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return process, process.stdout.readline().strip()

    def role(self, name, *flags):
        process, line = self.start(self.lethe, name, "--data", self.folder / name, *flags, "--json")
        return process, json.loads(line)

    def client(self, target, streams, tokens, per_second):
        command = [self.load, "client", target, self.key, MODEL, streams, tokens, per_second]
        ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(ran.stderr.strip())
        return json.loads(ran.stdout)

    def answers(self):
        """Waits until a request is answered: the provider has to be found first."""
        for _ in range(50):
            with contextlib.suppress(RuntimeError):
                return self.client(self.gateway_at, 1, 100, 0)
            time.sleep(0.2)
        return self.client(self.gateway_at, 1, 100, 0)

    def measured(self, target, processes, run):
        """Microseconds per token of each of the processes, and tokens per second."""
        before = [cpu_s(process) for process in processes]
        came = self.client(target, *run)
        time.sleep(SETTLE_S)
        spent = [cpu_s(process) - was for process, was in zip(processes, before)]
        return [1e6 * cpu / came["tokens"] for cpu in spent] + [came["tokens"] / came["wall_s"]]


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


def idle(town):
    processes = {"relay": town.relay, "provider": town.provider, "gateway and consumer": town.consumer}
    before = {name: cpu_s(process) for name, process in processes.items()}
    time.sleep(IDLE_S)
    for name, process in processes.items():
        print(f"idle {name}: {1e3 * (cpu_s(process) - before[name]) / IDLE_S:.2f} ms of processor time per second")


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    binaries, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        town = Town(binaries, pathlib.Path(folder), stack)
        town.answers()
        idle(town)
        print("µs of processor time per token:")
        print("streams, pace        relay   gateway+consumer   provider      both   ratio   tokens/s: relay, market")
        for run in RUNS:
            rows = []
            for _ in range(rounds):
                relay = town.measured(town.relay_at, [town.relay], run)
                rows.append(relay + town.measured(town.gateway_at, [town.consumer, town.provider], run))
            relay, relay_speed, consumer, provider, speed = medians(rows)
            both = statistics.median(row[2] + row[3] for row in rows)
            ratio = statistics.median((row[2] + row[3]) / row[0] for row in rows)
            pace = f"{run[2]}/s" if run[2] else "flat out"
            print(
                f"{run[0]:2} {pace:>10} {relay:14.2f} {consumer:18.1f} {provider:10.1f} {both:9.1f} {ratio:7.1f}"
                f"   {relay_speed:.0f}, {speed:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
