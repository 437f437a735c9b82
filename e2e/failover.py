"""Two providers, each in front of a llama.cpp server; the one that answers is killed within the answer. What the client reads
is what one server says that nobody kills, at temperature 0."""

import http.client
import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.request

import openai

from check import check, end
from processes import END_S, START_S, role, running, start

HERE = pathlib.Path(__file__).parent
# Between two tokens, so that there is time to be killed within an answer.
GAP_S = 0.1
MODEL = "llama"
QUESTIONS = ["What is a glacier?", "What is a river?", "What is a volcano?"]
# The server goes after so many tokens.
AFTER = 4

lethe, gguf = sys.argv[1:3]


class Slow(http.server.ThreadingHTTPServer):
    """Stands before a llama.cpp server and lets one token pass at a time; dies with it, and comes back with a new one."""

    daemon_threads = True

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Pass)
        self.name, self.streams = name, 0
        self.llama, self.target = self.fresh()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fresh(self):
        return start(self.name, sys.executable, str(HERE / "llama.py"), gguf, MODEL)

    def kill(self):
        self.llama.send_signal(signal.SIGKILL)
        self.llama.wait(END_S)

    def revive(self):
        self.llama, self.target = self.fresh()

    def handle_error(self, request, client_address):
        """Connections break here; that is what it is for."""


class Pass(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.passed("GET", None)

    def do_POST(self):
        self.passed("POST", self.rfile.read(int(self.headers["content-length"])))

    def passed(self, method, body):
        llama = http.client.HTTPConnection(self.server.target.removeprefix("http://"), timeout=END_S)
        self.close_connection = True
        self.server.streams += method == "POST"
        try:
            llama.request(method, self.path, body, {"content-type": "application/json"})
            answer = llama.getresponse()
            self.send_response(answer.status)
            self.send_header("content-type", answer.getheader("content-type"))
            self.send_header("connection", "close")
            self.end_headers()
            while line := answer.readline():
                if b'"content":"' in line and method == "POST":
                    time.sleep(GAP_S)
                    if self.server.llama.poll() is not None:
                        break
                self.wfile.write(line)
                self.wfile.flush()
        finally:
            self.server.streams -= method == "POST"

    def log_message(self, *_):
        pass


servers = [Slow("llama-one"), Slow("llama-two")]
_, chain = role(lethe, "chain", "chain", "--rpc", "127.0.0.1:0")
network = ("--rpc-url", chain["rpc_url"])
providers = []
for number, server in enumerate(servers):
    backend = f"http://127.0.0.1:{server.server_port}/v1"
    flags = ("--endpoint", "127.0.0.1:0", "--backend", backend, "--model", MODEL)
    _, provide = role(lethe, f"provider-{number}", "provide", *network, *flags)
    providers.append(provide)


def offers(provider):
    with urllib.request.urlopen(f"http://{provider['endpoint']}/.well-known/lethe", timeout=END_S) as answer:
        return json.loads(json.load(answer)["record"])["offers"]


@check("failover: both providers found out that llama.cpp goes on with a begun answer")
def _():
    deadline = time.monotonic() + START_S
    while not all(offer.get("continues") for provider in providers for offer in offers(provider)):
        assert time.monotonic() < deadline, [offers(provider) for provider in providers]
        time.sleep(0.2)


_, consume = role(lethe, "consumer", "consume", "--direct", *network, "--http", "127.0.0.1:0")
client = openai.OpenAI(base_url=consume["base_url"], api_key=consume["api_key"], max_retries=0, timeout=60)


def said(question):
    """What a server says that nobody kills."""
    message = [{"role": "user", "content": question}]
    body = json.dumps({"model": MODEL, "messages": message, "temperature": 0}).encode()
    request = urllib.request.Request(
        f"{servers[0].target}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=END_S) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


@check("failover: an answer comes through the market")
def _():
    deadline = time.monotonic() + START_S
    while not [offered for offered in client.models.list().data if offered.model_extra["live"]]:
        assert time.monotonic() < deadline, client.models.list()
        time.sleep(0.2)


for question in QUESTIONS:

    @check(f"failover: {question} is answered as one, though llama.cpp is killed within it")
    def _():
        whole = said(question)
        chunks, text, killed = [], "", None
        message = [{"role": "user", "content": question}]
        for chunk in client.chat.completions.create(model=MODEL, messages=message, temperature=0, stream=True):
            chunks.append(chunk)
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
            if killed is None and len(chunks) > AFTER:
                killed = next(server for server in servers if server.streams)
                killed.kill()
        assert killed is not None, text
        killed.revive()
        assert text == whole, (text, whole)
        assert len({chunk.id for chunk in chunks}) == 1, chunks
        print(f"   {text}", file=sys.stderr)


# The threads of servers whose connections broke may hang on.
status = 0
try:
    end()
except SystemExit as ended:
    status = ended.code
for process in reversed(running):
    process.kill()
sys.stdout.flush()
os._exit(status)
