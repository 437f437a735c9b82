"""A model's server that calls the tool that it is given, and says what came of the call. It knows nothing else.

usage: scripted.py   Prints its address.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "scripted"
# As long as this.
WORDS = "Glaciers are slow rivers of ice."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole({"object": "list", "data": [{"id": NAME, "object": "model"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        results = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
        if results:
            deltas, reason = [{"content": piece} for piece in ("The tool ", "says ", f"{results[-1]}.")], "stop"
        elif asked.get("tools"):
            function = asked["tools"][0]["function"]["name"]
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": function, "arguments": ""}}
            pieces = ('{"city"', ':"Bern"', "}")
            deltas = [{"tool_calls": [call]}] + [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
            reason = "tool_calls"
        else:
            words = WORDS.split()[: asked.get("max_tokens") or None]
            deltas = [{"content": word if n == 0 else f" {word}"} for n, word in enumerate(words)]
            reason = "stop" if len(words) == len(WORDS.split()) else "length"
        self.events(deltas, reason)

    def whole(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, deltas, reason):
        """Providers always ask for a stream with usage."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": NAME}
        deltas[0] = {"role": "assistant", **deltas[0]}
        for delta in deltas:
            self.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        usage = {"prompt_tokens": 9, "completion_tokens": len(deltas), "total_tokens": 9 + len(deltas)}
        self.event({**head, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
