"""OpenAI's Python client, unchanged, against `lethe up`."""

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai

from check import API_KEY, BASE_URL, check, end, refusal

QUESTION = [{"role": "user", "content": "What is a glacier?"}]
AT_ONCE = 12

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)
model = ""


def ask(**more):
    return client.chat.completions.create(**{"model": model, "messages": QUESTION, "temperature": 0, **more})


def state():
    """What the dashboard shows."""
    url = BASE_URL.removesuffix("/v1") + "/api/state"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@check("python: the models are listed with price and limits")
def _():
    global model
    first = client.models.list().data[0]
    assert first.id and first.object == "model", first
    assert first.model_extra["live"] and first.model_extra["providers"] == 3, first
    assert int(first.model_extra["pricing"]["input_per_million"]) > 0, first
    assert client.models.retrieve(first.id).id == first.id
    model = first.id


@check("python: the demonstration model knows what a glacier is")
def _():
    answer = ask().choices[0].message.content
    assert re.search(r"\bice\b", answer, re.IGNORECASE), answer


@check("python: an answer in one piece, with usage and what it cost")
def _():
    answer = ask()
    choice, lethe = answer.choices[0], answer.model_extra["lethe"]
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "stop", answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer
    assert lethe["outcome"] == "complete" and int(lethe["cost"]) > 0, lethe
    assert lethe["output_tokens"] == answer.usage.completion_tokens, lethe


@check("python: max_tokens is kept")
def _():
    answer = ask(max_tokens=3)
    assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length", answer


@check("python: a stream says the same as one piece, without usage")
def _():
    chunks = list(ask(stream=True))
    assert len(chunks) > 3 and text_of(chunks) == ask().choices[0].message.content, chunks
    assert all(chunk.usage is None and chunk.choices for chunk in chunks), chunks
    assert chunks[-1].choices[0].finish_reason == "stop", chunks


@check("python: a stream with include_usage ends with the usage")
def _():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks
    assert all(chunk.usage is None for chunk in chunks[:-1]), chunks


@check("python: the probabilities of tokens")
def _():
    tokens = ask(logprobs=True, top_logprobs=2, max_tokens=3).choices[0].logprobs.content
    assert len(tokens) == 3, tokens
    for token in tokens:
        assert len(token.top_logprobs) == 2 and token.logprob <= 0 and bytes(token.bytes).decode() == token.token, token


@check("python: tools are refused with the reason, as the model's template knows none")
def _():
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    error = refusal(openai.BadRequestError, lambda: ask(tools=[tool]))
    assert "tools" in error.message and error.code == "model_refused", error


@check("python: an unknown model is refused with what is on offer")
def _():
    error = refusal(openai.NotFoundError, lambda: ask(model="gpt-9"))
    assert model in error.message and "gpt-9" in error.message and error.param == "model", error


@check("python: a temperature of 9 is refused with what is allowed")
def _():
    error = refusal(openai.BadRequestError, lambda: ask(temperature=9))
    assert error.param == "temperature" and "0 to 2" in error.message, error


@check("python: no messages are refused")
def _():
    error = refusal(openai.BadRequestError, lambda: ask(messages=[]))
    assert error.param == "messages", error


@check("python: a wrong key is refused")
def _():
    stranger = client.with_options(api_key="lethe-wrong-key")
    error = refusal(openai.AuthenticationError, lambda: stranger.models.list())
    assert error.code == "invalid_api_key" and API_KEY not in error.message, error


@check("python: a stream that is left early frees its place")
def _():
    for _ in range(8):
        stream = ask(stream=True, temperature=1.5)
        next(iter(stream))
        stream.close()
    deadline = time.monotonic() + 15
    while any(offer["running"] for offered in state()["models"] for offer in offered["offers"]):
        assert time.monotonic() < deadline, state()["models"]
        time.sleep(0.2)
    assert ask().choices[0].message.content


@check(f"python: {AT_ONCE} streams at once")
def _():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        texts = list(pool.map(lambda _: text_of(ask(stream=True)), range(AT_ONCE)))
    assert len(set(texts)) == 1 and texts[0], texts


end()
