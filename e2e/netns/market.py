"""A market on the hosts: chain, provider with a scripted backend, relays, consumers; and a client of a consumer."""

import http.client
import json
import os
import pathlib
import select
import subprocess
import sys
import time

import hosts

HERE = pathlib.Path(__file__).parent
START_S = 90
END_S = 15
ASK_S = 60
MODEL = "scripted"


class Process:
    """A process on a host; its first line, and its log."""

    def __init__(self, folder, name, host, command, log="warn"):
        self.name, self.host = name, host
        self.log = pathlib.Path(folder) / "logs" / f"{name}.log"
        self.log.parent.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LETHE_LOG": log, "PYTHONDONTWRITEBYTECODE": "1"}
        with open(self.log, "w") as file:
            self.process = subprocess.Popen(
                hosts.on(host, command), stdout=subprocess.PIPE, stderr=file, text=True, env=environment
            )
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        self.first = self.process.stdout.readline().strip() if ready else ""
        if not self.first:
            self.end()
            raise RuntimeError(f"{name} did not start within {START_S} s: {self.log.read_text()[-800:]}")

    @property
    def pid(self):
        # `ip netns exec` and the shell both become the program itself.
        return self.process.pid

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Market:
    """Starts what is asked for; ends all of it."""

    def __init__(self, lethe, folder, log="warn"):
        self.lethe, self.folder, self.level = lethe, pathlib.Path(folder), log
        self.running = []

    def start(self, name, host, *command):
        process = Process(self.folder, name, host, command, self.level)
        self.running.append(process)
        return process

    def role(self, role, host, *flags, name=None):
        name = name or host
        # One who comes back as `NAME again` has the data of before.
        data = self.folder / "data" / name.split()[0]
        process = self.start(name, host, self.lethe, role, "--data", data, "--json", *flags)
        process.said = json.loads(process.first)
        return process

    def open(self):
        """Chain, backend, provider and two relays."""
        self.chain = self.role("chain", "chain", "--rpc", f"{hosts.ADDRESSES['chain']}:0")
        self.network = ("--rpc-url", self.chain.said["rpc_url"])
        backend = self.start("backend", "provider", sys.executable, HERE / "backend.py")
        self.backend = int(backend.first)
        self.provider = self.sell()
        self.relays = {host: self.relay(host) for host in ("relay1", "relay2")}

    def sell(self, name="provider"):
        backend = f"http://127.0.0.1:{self.backend}/v1"
        offer = ("--model", MODEL, "--backend", backend, "--slots", "8")
        return self.role("provide", "provider", *self.network, *offer, *self.at("provider"), name=name)

    def at(self, host):
        return "--endpoint", f"{hosts.ADDRESSES[host]}:0", "--listen", f"{hosts.ADDRESSES[host]}:0"

    def relay(self, host, name=None):
        return self.role("relay", host, *self.network, *self.at(host), name=name)

    def consumer(self, name, *flags):
        consumer = self.role("consume", "consumer", *self.network, "--http", "127.0.0.1:0", *flags, name=name)
        return Client(consumer)

    def script(self, pieces, every_ms=0):
        body = json.dumps({"pieces": pieces, "every_ms": every_ms})
        self.to_backend("POST", "/script", body)

    def to_backend(self, method, path, body=None, host="provider"):
        """Asks the backend in clear; from another host over the wire."""

        def ask():
            connection = http.client.HTTPConnection(hosts.ADDRESSES["provider"], self.backend, timeout=ASK_S)
            connection.request(method, path, body, {"content-type": "application/json"})
            return connection.getresponse().read()

        return hosts.inside(host, ask)

    def close(self):
        for process in reversed(self.running):
            process.end()
        self.running.clear()


class Broken(Exception):
    """An answer that said that it did not end well."""


class Client:
    """Somebody on the consumer's host who speaks to its gateway."""

    def __init__(self, process):
        self.process = process
        self.port = int(process.said["base_url"].split(":")[2].split("/")[0])
        self.payer = process.said["payer"]

    def request(self, method, path, body=None):
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S)
            key = {"authorization": f"Bearer {self.process.said['api_key']}", "content-type": "application/json"}
            connection.request(method, path, body, key)
            return connection.getresponse()

        return hosts.inside("consumer", ask)

    def live(self, within=30):
        """Waits until the model can be bought."""
        deadline = time.monotonic() + within
        while True:
            models = json.load(self.request("GET", "/v1/models"))["data"]
            if any(model["live"] for model in models):
                return self
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing to buy within {within} s: {models}")
            time.sleep(0.1)

    def pieces(self, prompt):
        """The pieces of a streamed answer as they come; raises if it did not end well."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
        answer = self.request("POST", "/v1/chat/completions", json.dumps(body))
        if answer.status != 200:
            raise Broken(f"{answer.status} {answer.read().decode()}")
        done = False
        try:
            for line in answer:
                line = line.decode().strip()
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise Broken(json.dumps(chunk["error"]))
                    for choice in chunk["choices"]:
                        if choice["delta"].get("content"):
                            yield choice["delta"]["content"]
        except (ConnectionError, http.client.HTTPException) as error:
            raise EOFError("the answer broke off and did not say why") from error
        if not done:
            raise EOFError("the answer ended without its end, and did not say why")

    def ask(self, prompt):
        return "".join(self.pieces(prompt))
