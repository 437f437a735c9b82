"""Anthropic's and Ollama's Python clients, and OpenAI's for responses and completions, unchanged, against `lethe up`."""

import anthropic
import ollama
import openai

from check import API_KEY, BASE_URL, check, end, refusal

# Anthropic's client names no temperature any more; its API takes one.
GREEDY = {"extra_body": {"temperature": 0}}
ROOT = BASE_URL.removesuffix("/v1")
QUESTION = "What is a glacier?"
ASKED = [{"role": "user", "content": QUESTION}]

openais = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=30)
claude = anthropic.Anthropic(base_url=ROOT, api_key=API_KEY, max_retries=0, timeout=30)
llama = ollama.Client(host=ROOT, headers={"authorization": f"Bearer {API_KEY}"}, timeout=30)
model = openais.models.list().data[0].id
plain = openais.chat.completions.create(model=model, messages=ASKED, temperature=0)
text = plain.choices[0].message.content


def message(**more):
    return claude.messages.create(**{"model": model, "messages": ASKED, "max_tokens": 200, **GREEDY, **more})


@check("anthropic: a message in one piece says what a chat says, with usage and cost")
def _():
    answer = message()
    assert [block.text for block in answer.content] == [text], answer
    assert (answer.stop_reason, answer.role, answer.type) == ("end_turn", "assistant", "message"), answer
    assert answer.usage.output_tokens == plain.usage.completion_tokens, answer
    assert int(answer.model_extra["lethe"]["cost"]) > 0, answer


@check("anthropic: a streamed message, put together by the client")
def _():
    with claude.messages.stream(model=model, messages=ASKED, max_tokens=200, **GREEDY) as stream:
        pieces = list(stream.text_stream)
        answer = stream.get_final_message()
    assert len(pieces) > 3 and "".join(pieces) == text, pieces
    assert answer.content[0].text == text and answer.stop_reason == "end_turn", answer
    assert answer.usage.output_tokens == plain.usage.completion_tokens, answer


@check("anthropic: raw events in their order")
def _():
    names = [event.type for event in message(stream=True)]
    assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"], names


@check("anthropic: max_tokens, a system prompt of blocks, several turns")
def _():
    turns = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": text}]}, *ASKED]
    answer = message(max_tokens=3, system=[{"type": "text", "text": "Be brief."}], messages=turns)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 3), answer


@check("anthropic: labels and route are in the headers")
def _():
    answer = claude.messages.with_raw_response.create(model=model, messages=ASKED, max_tokens=3)
    assert answer.headers["x-lethe-labels"] and answer.headers["x-lethe-route"], answer.headers
    assert answer.headers["request-id"] == answer.headers["x-request-id"], answer.headers


@check("anthropic: errors have its shape")
def _():
    error = refusal(anthropic.NotFoundError, lambda: message(model="claude-9"))
    assert error.body["error"]["type"] == "not_found_error" and model in error.message, error
    error = refusal(anthropic.AuthenticationError, lambda: claude.with_options(api_key="lethe-wrong-key").models.list())
    assert error.body["error"]["type"] == "authentication_error", error
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
    error = refusal(anthropic.BadRequestError, lambda: message(messages=[{"role": "user", "content": [image]}]))
    assert "image" in error.message and "messages[0].content[0]" in error.message, error
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
    error = refusal(anthropic.BadRequestError, lambda: message(tools=[tool]))
    assert "tools" in error.message, error


@check("anthropic: tokens are estimated, models are listed")
def _():
    assert claude.messages.count_tokens(model=model, messages=ASKED).input_tokens > 30
    assert model in [offered.id for offered in claude.models.list()]


@check("ollama: a chat in one piece and streamed")
def _():
    options = {"temperature": 0}
    answer = llama.chat(model, messages=ASKED, options=options)
    assert answer.message.content == text and answer.done and answer.done_reason == "stop", answer
    assert answer.eval_count == plain.usage.completion_tokens, answer
    pieces = list(llama.chat(model, messages=ASKED, options=options, stream=True))
    assert "".join(piece.message.content for piece in pieces) == text and len(pieces) > 3, pieces
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True], pieces


@check("ollama: generate, with a limit, streamed")
def _():
    answer = llama.generate(model, QUESTION, options={"temperature": 0, "num_predict": 3})
    assert (answer.eval_count, answer.done_reason) == (3, "length"), answer
    pieces = list(llama.generate(model, QUESTION, options={"temperature": 0}, stream=True))
    assert "".join(piece.response for piece in pieces) == text, pieces


@check("ollama: models are listed and shown, an unknown one is refused")
def _():
    assert model in [offered.model for offered in llama.list().models]
    assert "completion" in llama.show(model).capabilities
    error = refusal(ollama.ResponseError, lambda: llama.chat("gpt-9", messages=ASKED))
    assert error.status_code == 404 and "gpt-9" in error.error, error


@check("completions: in one piece and streamed")
def _():
    answer = openais.completions.create(model=model, prompt=QUESTION, temperature=0)
    assert answer.choices[0].text == text and answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.completion_tokens == plain.usage.completion_tokens, answer
    stream = list(openais.completions.create(model=model, prompt=QUESTION, temperature=0, stream=True))
    assert "".join(piece.choices[0].text for piece in stream) == text, stream
    assert stream[-1].choices[0].finish_reason == "stop", stream[-1]
    error = refusal(openai.BadRequestError, lambda: openais.completions.create(model=model, prompt=["a", "b"]))
    assert error.param == "prompt", error


@check("responses: in one piece, with instructions and turns")
def _():
    answer = openais.responses.create(model=model, input=QUESTION, temperature=0)
    assert answer.output_text == text and answer.status == "completed", answer
    assert answer.usage.output_tokens == plain.usage.completion_tokens and answer.store is False, answer
    turns = [*ASKED, *[item.model_dump(exclude_none=True) for item in answer.output], *ASKED]
    answer = openais.responses.create(model=model, instructions="Be brief.", input=turns, max_output_tokens=3)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens"), answer


@check("responses: streamed, put together by the client")
def _():
    with openais.responses.stream(model=model, input=QUESTION, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        answer = stream.get_final_response()
    assert len(deltas) > 3 and "".join(deltas) == text == answer.output_text, deltas


@check("responses: what would be stored is refused")
def _():
    error = refusal(openai.BadRequestError, lambda: openais.responses.create(model=model, input="a", store=True))
    assert error.param == "store", error
    error = refusal(
        openai.BadRequestError,
        lambda: openais.responses.create(model=model, input="a", previous_response_id="resp_1"),
    )
    assert "nothing is stored" in error.message, error


end()
