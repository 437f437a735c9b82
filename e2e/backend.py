"""Chain, provider and consumer as processes of their own; the provider sells what llama.cpp's server answers."""

import json
import pathlib
import sys
import time
import urllib.request

import openai

from check import check, end, refusal
from processes import END_S, role, start

HERE = pathlib.Path(__file__).parent
QUESTION = [{"role": "user", "content": "What is a glacier?"}]

lethe, gguf = sys.argv[1:3]

# Without these there is nothing to check; a failure ends it here.
llama, backend = start("llama", sys.executable, str(HERE / "llama.py"), gguf, "tiny")
_, chain = role(lethe, "chain", "chain", "--rpc", "127.0.0.1:0")
network = ("--rpc-url", chain["rpc_url"])
_, provide = role(
    lethe, "provide", "provide", *network, "--endpoint", "127.0.0.1:0",
    "--backend", f"{backend}/v1", "--model", "llama", "--backend-model", "tiny",
)
_, consume = role(lethe, "consume", "consume", "--direct", *network, "--http", "127.0.0.1:0")
client = openai.OpenAI(base_url=consume["base_url"], api_key=consume["api_key"], max_retries=0, timeout=30)


def ask(api=client, **more):
    return api.chat.completions.create(**{"model": "llama", "messages": QUESTION, "temperature": 0, **more})


def direct():
    """What the server answers without a market in between."""
    body = json.dumps({"model": "tiny", "messages": QUESTION, "temperature": 0}).encode()
    request = urllib.request.Request(f"{backend}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


@check("backend: llama.cpp's model is on offer")
def _():
    deadline = time.monotonic() + 20
    while not [offered for offered in client.models.list().data if offered.model_extra["live"]]:
        assert time.monotonic() < deadline, client.models.list()
        time.sleep(0.2)
    assert [offered.id for offered in client.models.list().data] == ["llama"]


@check("backend: a stream through the market says what llama.cpp says")
def _():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3 and text == direct(), (text, direct())
    assert chunks[-1].usage.completion_tokens > 0, chunks[-1]


@check("backend: a stream is billed, and says what it cost")
def _():
    with client.chat.completions.with_streaming_response.create(
        model="llama", messages=QUESTION, stream=True, temperature=0
    ) as answer:
        lines = list(answer.iter_lines())
    receipt = next(json.loads(line.removeprefix(": lethe ")) for line in lines if line.startswith(": lethe "))
    assert receipt["outcome"] == "complete" and receipt["provider"] == provide["provider"], receipt
    # The prices that `lethe provide` asks if nothing is said: 0.5 and 1 MOR per million tokens.
    assert int(receipt["cost"]) == receipt["input_tokens"] * 5 * 10**11 + receipt["output_tokens"] * 10**12, receipt
    assert lines[-1] == "data: [DONE]" or "data: [DONE]" in lines, lines[-3:]


@check("backend: an answer in one piece is billed")
def _():
    answer = ask()
    assert answer.choices[0].message.content == direct()
    assert int(answer.model_extra["lethe"]["cost"]) > 0, answer


@check("backend: once llama.cpp is gone, requests fail soon and say why")
def _():
    llama.kill()
    llama.wait(END_S)
    begun = time.monotonic()
    error = refusal(openai.InternalServerError, ask)
    assert 500 <= error.status_code < 600 and error.message and error.code, error
    assert time.monotonic() - begun < 20, time.monotonic() - begun
    print(f"   {error.status_code} {error.message}", file=sys.stderr)


@check("backend: so do streams")
def _():
    error = refusal(openai.InternalServerError, lambda: list(ask(stream=True)))
    assert 500 <= error.status_code < 600, error


end()
