"""One provider in front of three llama.cpp servers, one of which is killed and started again while clients ask."""

import concurrent.futures
import json
import pathlib
import signal
import sys
import threading
import time
import urllib.request

import openai

from check import check, end
from processes import END_S, role, start

HERE = pathlib.Path(__file__).parent
SERVERS = 3
CLIENTS = 4
REQUESTS = 120
# Of them, when the server goes, and when it comes back.
GOES, COMES = REQUESTS // 4, REQUESTS // 2
THINGS = ["glacier", "river", "volcano", "desert", "harbour", "bridge"]

lethe, gguf = sys.argv[1:3]


def llama(number, *port):
    return start(f"llama-{number}", sys.executable, str(HERE / "llama.py"), gguf, "tiny", *port)


servers = [llama(number) for number in range(SERVERS)]
_, chain = role(lethe, "chain", "chain", "--rpc", "127.0.0.1:0")
network = ("--rpc-url", chain["rpc_url"])
backends = [flag for _, address in servers for flag in ("--backend", f"{address}/v1")]
_, provide = role(
    lethe, "provide", "provide", *network, "--endpoint", "127.0.0.1:0", *backends,
    "--model", "llama", "--backend-model", "tiny", "--slots", "8", "--queue", "32",
)
_, consume = role(lethe, "consume", "consume", "--direct", *network, "--http", "127.0.0.1:0")
client = openai.OpenAI(base_url=consume["base_url"], api_key=consume["api_key"], max_retries=0, timeout=60)


def question(thing):
    return [{"role": "user", "content": f"What is a {thing}?"}]


def direct(thing):
    body = json.dumps({"model": "tiny", "messages": question(thing), "temperature": 0}).encode()
    request = urllib.request.Request(
        f"{servers[0][1]}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=END_S) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


@check("pool: three servers are one offer")
def _():
    deadline = time.monotonic() + 20
    while not [offered for offered in client.models.list().data if offered.model_extra["live"]]:
        assert time.monotonic() < deadline, client.models.list()
        time.sleep(0.2)


@check("pool: no request is lost while one of three servers is killed and started again")
def _():
    right = {thing: direct(thing) for thing in THINGS}
    turn, lock = iter(range(REQUESTS)), threading.Lock()
    process, address = servers[-1]

    def ask():
        done = 0
        while True:
            with lock:
                number = next(turn, None)
                if number == GOES:
                    process.send_signal(signal.SIGKILL)
                    process.wait(END_S)
                if number == COMES:
                    llama(SERVERS, address.rsplit(":", 1)[1])
            if number is None:
                return done
            thing = THINGS[number % len(THINGS)]
            answer = client.chat.completions.create(model="llama", messages=question(thing), temperature=0)
            assert answer.choices[0].message.content == right[thing], answer
            done += 1

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        asking = [clients.submit(ask) for _ in range(CLIENTS)]
        done = sum(asked.result() for asked in asking)
    assert done == REQUESTS, done
    print(f"   {done} requests", file=sys.stderr)


end()
