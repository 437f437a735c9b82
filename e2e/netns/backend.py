"""An OpenAI-compatible server that says what it was told to say.

`POST /script {"pieces": [...], "every_ms": N}` sets what it says from now on, a chunk for each piece; `GET /seen` is how
many answers were asked for. A question that is itself `{"pieces": [...], "gaps_ms": [...], "fingerprint": "..."}` is
answered with that. Its first line is its port.
"""

import http.server
import json
import threading
import time

SCRIPT = {"pieces": ["nothing"], "every_ms": 0}
SEEN = [0]
LOCK = threading.Lock()


def plan(body):
    """What a question says that its answer is to be."""
    try:
        said = json.loads(body["messages"][-1]["content"])
        return said if "gaps_ms" in said else None
    except (KeyError, TypeError, ValueError):
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.say(SEEN[0] if self.path == "/seen" else {"object": "list", "data": [{"id": "scripted"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/script":
            SCRIPT.update(body)
            return self.say("ok")
        with LOCK:
            SEEN[0] += 1
        script = plan(body) or dict(SCRIPT)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            self.stream(script)
        except ConnectionError:
            pass

    def stream(self, script):
        gaps = script.get("gaps_ms") or [script["every_ms"]] * len(script["pieces"])
        more = {"system_fingerprint": script["fingerprint"]} if "fingerprint" in script else {}
        for gap, piece in zip(gaps, script["pieces"]):
            time.sleep(gap / 1000)
            self.event(more | {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        tokens = len(script["pieces"])
        usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
        self.event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, chunk):
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted"} | chunk
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
