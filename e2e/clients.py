"""LiteLLM, LangChain, Vercel's AI SDK, and what Open WebUI asks of a server, unchanged, against a market of processes
whose model calls tools.

usage: clients.py LETHE
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
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from check import check, end, refusal
from processes import folder, role, start

HERE = pathlib.Path(__file__).parent
MODEL = "scripted"
WORDS = "Glaciers are slow rivers of ice."
AI_S = 60

lethe = sys.argv[1]
_, backend = start("scripted", sys.executable, str(HERE / "scripted.py"))
_, chain = role(lethe, "chain", "chain", "--rpc", "127.0.0.1:0")
network = ("--rpc-url", chain["rpc_url"])
role(
    lethe, "provide", "provide", *network, "--endpoint", "127.0.0.1:0", "--backend", f"{backend}/v1", "--model", MODEL,
    "--heeds", "tools,tool_choice,max_tokens,max_completion_tokens,temperature,n,stop", "--no-probe",
)
_, consume = role(lethe, "consume", "consume", "--direct", *network, "--http", "127.0.0.1:0")
base, key = consume["base_url"], consume["api_key"]
root = base.removesuffix("/v1")
# Spent before it is used: the cheapest request may cost more.
made = subprocess.run(
    [lethe, "key", "add", "poor", "--json", "--budget-per-day", "0.000000000001", "--data", str(pathlib.Path(folder.name) / "consume")],
    check=True, capture_output=True, text=True,
)
poor = json.loads(made.stdout)["api_key"]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"snow in {city}"


def lite(**more):
    asked = {"model": f"openai/{MODEL}", "api_base": base, "api_key": key, "messages": [{"role": "user", "content": "Hello"}], "num_retries": 0}
    # Its part for MCP is not installed, and else looked for as soon as there are tools.
    return litellm.completion(**{**asked, "_skip_mcp_handler": True, **more})


def chat(**more):
    return ChatOpenAI(**{"model": MODEL, "base_url": base, "api_key": key, "max_retries": 0, "timeout": 30, **more})


@check("litellm: an answer in one piece, and the same streamed")
def _():
    whole = lite()
    assert whole.choices[0].message.content == WORDS and whole.usage.completion_tokens > 0, whole
    text = "".join(chunk.choices[0].delta.content or "" for chunk in lite(stream=True))
    assert text == WORDS, text


@check("litellm: a tool is called, streamed and in one piece, and its result is answered")
def _():
    function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    tools = [{"type": "function", "function": function}]
    message = lite(tools=tools).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bern"}), call
    chunks = list(lite(tools=tools, stream=True))
    streamed = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0].function
    assert json.loads(streamed.arguments) == {"city": "Bern"}, streamed
    result = {"role": "tool", "tool_call_id": call.id, "content": "snow"}
    last = lite(tools=tools, messages=[{"role": "user", "content": "Weather?"}, message.model_dump(exclude_none=True), result])
    assert last.choices[0].message.content == "The tool says snow.", last


@check("litellm: refusals have its types: an unknown model, a wrong key, a spent budget")
def _():
    refusal(litellm.NotFoundError, lambda: lite(model="openai/nobody"))
    refusal(litellm.AuthenticationError, lambda: lite(api_key="lethe-wrong-key-000"))
    error = refusal(openai.APIError, lambda: lite(api_key=poor))
    assert "MOR a day" in str(error) and "00:00 UTC" in str(error), error


@check("langchain: invoke, stream with usage, batch")
def _():
    answer = chat().invoke("Hello")
    assert answer.content == WORDS and answer.usage_metadata["output_tokens"] > 0, answer
    chunks = list(chat(stream_usage=True).stream("Hello"))
    assert "".join(chunk.content for chunk in chunks) == WORDS, chunks
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) > 0, chunks
    assert [answer.content for answer in chat().batch(["One", "Two", "Three"])] == [WORDS] * 3


@check("langchain: a bound tool is called, and its result is answered")
def _():
    bound = chat().bind_tools([weather])
    asked = [HumanMessage("Weather in Bern?")]
    call = bound.invoke(asked)
    assert [(it["name"], it["args"]) for it in call.tool_calls] == [("weather", {"city": "Bern"})], call
    result = weather.invoke(call.tool_calls[0])
    assert isinstance(result, ToolMessage), result
    assert bound.invoke([*asked, call, result]).content == "The tool says snow in Bern.", result


@check("langchain: max_tokens is kept, and a spent budget is an error that says so")
def _():
    assert chat(max_tokens=2).invoke("Hello").content == "Glaciers are"
    error = refusal(openai.APIStatusError, lambda: chat(api_key=poor).invoke("Hello"))
    assert error.status_code == 402 and error.code == "budget_spent", error


def web(path, method="GET", body=None, shown=key, **headers):
    """As a browser or Open WebUI's server asks: the status, the headers and the body."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if shown:
        headers["authorization"] = f"Bearer {shown}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(root + path, data, {"content-type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@check("open webui: its server looks for models with the key, and says that a wrong one is wrong")
def _():
    status, _, body = web("/v1/models")
    assert status == 200 and [model["id"] for model in json.loads(body)["data"]] == [MODEL], body
    for wrong in ("", "none", "lethe-wrong-key-000"):
        status, _, body = web("/v1/models", shown=wrong)
        assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key", body


@check("open webui: as Ollama it asks for version, tags and what runs, and hears of what there is not")
def _():
    status, _, body = web("/api/version")
    assert status == 200 and json.loads(body)["version"], body
    status, _, body = web("/api/tags")
    assert status == 200 and json.loads(body)["models"][0]["name"] == MODEL, body
    status, _, body = web("/api/ps")
    assert status == 404 and json.loads(body)["error"], body
    status, _, body = web("/api/chat", "POST", {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]})
    lines = [json.loads(line) for line in body.splitlines()]
    assert lines[-1]["done"] and "".join(line["message"]["content"] for line in lines) == WORDS, lines


@check("open webui: its titles and tags, beside a chat with a stream, usage and its own fields")
def _():
    title = {"model": MODEL, "messages": [{"role": "user", "content": "### Task: a title"}], "stream": False, "max_completion_tokens": 1000}
    status, _, body = web("/v1/chat/completions", "POST", title)
    assert status == 200 and json.loads(body)["choices"][0]["message"]["content"] == WORDS, body
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True, "stream_options": {"include_usage": True}}
    status, headers, body = web("/v1/chat/completions", "POST", asked, x_openwebui_user_name="alice", x_openwebui_chat_id="1")
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), headers
    assert b'"usage"' in body and body.endswith(b"data: [DONE]\n\n"), body


@check("open webui: a direct connection, from a page of this machine: preflight, then the request")
def _():
    here, elsewhere = "http://localhost:3000", "https://evil.example"
    ask = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,content-type"}
    status, headers, _ = web("/v1/chat/completions", "OPTIONS", shown="", origin=here, **ask)
    assert status == 204 and headers["access-control-allow-origin"] == here, headers
    assert "authorization" in headers["access-control-allow-headers"] and "POST" in headers["access-control-allow-methods"], headers
    status, headers, _ = web("/v1/models", origin=here)
    assert status == 200 and headers["access-control-allow-origin"] == here, headers
    # From elsewhere neither is there an answer, nor is anything asked of the market.
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    for method, more in (("OPTIONS", ask), ("POST", {})):
        status, headers, told = web("/v1/chat/completions", method, body if method == "POST" else None, origin=elsewhere, **more)
        assert status == 403 and "access-control-allow-origin" not in headers, headers
        assert json.loads(told)["error"]["code"] == "unknown_origin", told
    status, headers, _ = web("/api/keys", origin=elsewhere)
    assert status == 403, headers


@check("open webui: paths with tricks in them lead nowhere")
def _():
    for path in ("/v1/../api/keys", "/v1//models", "/v1/models/..%2f..%2fapi%2fkeys", "/%2e%2e/etc/passwd", "/docs/../openapi.json", "/docs/..%2fapi%2fkeys", "/v1/models/%00", "/V1/models", "/v1/models/"):
        status, _, body = web(path, shown="" if path.startswith("/docs") else poor)
        assert status in (400, 401, 404), (path, status, body)
        assert b"sha256" not in body and b"budget_per_day" not in body, body
    # The node's own tales are for its own key alone.
    for path in ("/api/keys", "/api/state", "/api/money"):
        assert web(path, shown=poor)[0] == 401, path


@check("vercel: its own checks")
def _():
    env = {**os.environ, "LETHE_BASE_URL": base, "LETHE_API_KEY": key, "LETHE_POOR_KEY": poor}
    ran = subprocess.run(["node", str(HERE / "ai.mjs")], env=env, capture_output=True, text=True, timeout=AI_S)
    print(ran.stdout, end="", flush=True)
    assert ran.returncode == 0, ran.stderr[-800:]


end()
