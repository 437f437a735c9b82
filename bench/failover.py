"""Answers while the providers that give them are killed and stopped, one every five seconds.

    python3 bench/failover.py target/release [STREAMS [AT_ONCE]] [--direct]

What it needs in that folder it builds, if it is not there: `lethe`, and `load` of bench/load. That takes minutes once.

Chain, backend, six providers, two relays and a consumer run as processes of their own on the loopback. Clients read streams
of 64 numbered tokens, 20 a second, so that it shows when one is missing or comes twice. Every five seconds one provider is
killed (`kill -9`) and started again two seconds later, or stopped (`kill -STOP`) for eight seconds, in turns. Printed: how
the streams ended, and their longest pauses. Fails if more than one in 10,000 is not whole.

Standard library only.
"""

import contextlib
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

MODEL = "scripted"
PROVIDERS = 6
STREAMS, AT_ONCE, TOKENS, PER_SECOND = 10_000, 400, 64, 20
EVERY_S, BACK_AFTER_S, STOPPED_S = 5, 2, 8
PLACES = "400"
SEED = 7


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Town:
    def __init__(self, binaries, folder, direct):
        self.load, self.lethe, self.folder = binaries / "load", binaries / "lethe", folder
        self.processes = {}
        self.backend = self.start("backend", [self.load, "backend"])
        chain = self.role("chain", "chain", "--rpc", "127.0.0.1:0")
        self.rpc = ["--rpc-url", chain["rpc_url"]]
        if not direct:
            for name in ("relay-one", "relay-two"):
                self.role(name, "relay", *self.rpc, "--endpoint", "127.0.0.1:0")
        self.doors = [(free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)) for _ in range(PROVIDERS)]
        for number in range(PROVIDERS):
            self.provide(number)
        consume = ["consume", *self.rpc, "--http", "127.0.0.1:0"] + (["--direct"] if direct else [])
        gateway = self.role("consumer", *consume)
        self.key, self.gateway = gateway["api_key"], gateway["base_url"].split("/")[2]

    def start(self, name, command):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes[name] = process
        return process.stdout.readline().strip()

    def role(self, name, role, *flags):
        line = self.start(name, [self.lethe, role, "--data", self.folder / name, *flags, "--json"])
        return json.loads(line)

    def provide(self, number):
        door, listen = self.doors[number]
        return self.role(
            f"provider-{number}", "provide", *self.rpc, "--model", MODEL, "--backend", f"http://{self.backend}/v1",
            "--endpoint", f"127.0.0.1:{door}", "--listen", f"127.0.0.1:{listen}", "--slots", PLACES, "--queue", PLACES,
        )

    def ask(self, *what):
        command = [str(part) for part in (self.load, "checked", self.gateway, self.key, MODEL, *what)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def close(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def trouble(town, over, told):
    """Kills and stops providers, one after the other, until it is over."""
    dice = random.Random(SEED)
    down = {}
    turn = 0
    while not over.wait(EVERY_S):
        number = dice.choice([number for number in range(PROVIDERS) if down.get(number, 0) < time.monotonic()])
        process = town.processes[f"provider-{number}"]
        turn += 1

        def back(number=number, process=process, kill=turn % 2 == 1):
            if kill:
                process.kill()
                process.wait()
                told["killed"] += 1
                if not over.wait(BACK_AFTER_S):
                    town.provide(number)
            else:
                process.send_signal(signal.SIGSTOP)
                told["stopped"] += 1
                over.wait(STOPPED_S)
                process.send_signal(signal.SIGCONT)

        down[number] = time.monotonic() + STOPPED_S + EVERY_S
        threading.Thread(target=back, daemon=True).start()


def build(binaries):
    """Builds what is missing in `target/release` or `target/debug`."""
    release = ["--release"] if binaries.name == "release" else []
    load = ["--manifest-path", "bench/load/Cargo.toml", "--target-dir", str(binaries.parent)]
    for binary, what in (("lethe", []), ("load", load)):
        if not (binaries / binary).exists():
            subprocess.run(["cargo", "build", *release, *what], check=True)


def main():
    args = [arg for arg in sys.argv[1:] if not arg.startswith("--")]
    asks = {"-h", "--help"} & set(sys.argv[1:])
    if asks or not args:
        print(__doc__.strip(), file=sys.stdout if asks else sys.stderr)
        sys.exit(0 if asks else 2)
    binaries = pathlib.Path(args[0])
    build(binaries)
    streams = int(args[1]) if len(args) > 1 else STREAMS
    at_once = int(args[2]) if len(args) > 2 else AT_ONCE
    with tempfile.TemporaryDirectory() as folder:
        town = Town(binaries, pathlib.Path(folder), "--direct" in sys.argv)
        try:
            for _ in range(100):
                if town.ask(1, 1, TOKENS, 0)["whole"]:
                    break
                time.sleep(0.3)
            fresh = town.ask(50, 10, TOKENS, PER_SECOND)
            told, over = {"killed": 0, "stopped": 0}, threading.Event()
            troubling = threading.Thread(target=trouble, args=(town, over, told))
            troubling.start()
            came = town.ask(streams, at_once, TOKENS, PER_SECOND)
            over.set()
            troubling.join()
        finally:
            town.close()
    came["ttft_in_peace"] = fresh["ttft"]
    problems = came.pop("problems")
    print(json.dumps({**told, **came}, indent=1))
    for problem in problems:
        print(problem)
    bad = came["streams"] - came["whole"]
    if came["silent"] or came["wrong"] or came["hung"] or came["billed_beyond_delivered"] or bad * 10_000 > streams:
        sys.exit(f"{bad} of {streams} streams were not whole")


if __name__ == "__main__":
    main()
