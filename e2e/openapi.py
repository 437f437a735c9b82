"""The node's OpenAPI document, tried by schemathesis: no 5xx but those that the document tells, and nothing answered that it does not tell.

usage: openapi.py WORK
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from check import API_KEY, BASE_URL, check, end

ROOT = BASE_URL.removesuffix("/v1")
SEED = 20
EXAMPLES = 8
# What it may take; and when it is ended, a slow machine included.
MAX_S = 45
SECONDS = 110
# Streams without an end, and what moves money: these have checks of their own.
LEFT_OUT = ["/api/events", "/api/claim", "/api/faucet"]
CHECKS = ["status_code_conformance", "content_type_conformance", "response_schema_conformance", "ignored_auth", "unsupported_method"]


def get(path, headers=()):
    request = urllib.request.Request(ROOT + path, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers, answer.read()


@check("openapi: the document and its page need no key, and the page loads nothing from elsewhere")
def _():
    status, headers, body = get("/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json"), headers
    assert json.loads(body)["openapi"].startswith("3.1"), body[:100]
    status, headers, page = get("/docs")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"], headers
    assert b"http://" not in page and b"https://" not in page, page


@check(f"openapi: schemathesis finds nothing that the document does not tell, from seed {SEED}")
def _():
    work = Path(sys.argv[1]) / "openapi"
    work.mkdir()
    # The models of this node stand where the document has any: else nearly all requests are for models that nobody sells.
    document = json.loads(get("/openapi.json")[2])
    model = json.loads(get("/v1/models", {"authorization": f"Bearer {API_KEY}"})[2])["data"][0]["id"]
    for path in LEFT_OUT:
        del document["paths"][path]
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith(("Request", "Options")):
            continue
        fields = schema.get("properties", {})
        if schema.get("required", [])[:1] == ["model"] and "minLength" in fields.get("model", {}):
            fields["model"] = {"enum": [model, model, "nobody/sells-this"]}
        for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"):
            if limit in fields:
                # The engine of the demonstration is one, and slow.
                fields[limit] = {"type": "integer", "minimum": 1, "maximum": 3}
    text = json.dumps(document).replace('"MODEL"', json.dumps(model))
    (work / "openapi.json").write_text(text)
    (work / "schemathesis.toml").write_text("")
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", str(work / "openapi.json"),
        "--url", ROOT, "-H", f"Authorization: Bearer {API_KEY}", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
        "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS), "--request-timeout", "20", "--max-time", str(MAX_S), "--workers", "1",
        "--generation-database", "none", "--no-color",
    ]
    ran = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=SECONDS, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(work)})
    if ran.returncode:
        print(ran.stdout, ran.stderr, file=sys.stderr)
    told = [line for line in ran.stdout.splitlines() if line.startswith(("- ", "Failures", "Test cases"))]
    assert ran.returncode == 0, "; ".join(told) or ran.stderr


end()
