"""Asks a GGUF the listed questions through llama.cpp and counts right answers.

An answer is right when it is the expected text, letter for letter, and the
model ended it itself. With `--record` it also writes llama.cpp's token ids for
the prompts that the node's own engine is compared against.
"""

import argparse
import hashlib
import json
import pathlib
import sys
import urllib.request

import xllamacpp

import dialogue
import questions

HERE = pathlib.Path(__file__).parent
MOST_TOKENS = 64
RECORDED_TOKENS = 32
REQUEST_SECONDS = 60
# What the model is meant to reach; the README says what the committed one does.
LEAST_KNOWN_SHARE = 0.95


class LlamaCpp:
    """llama.cpp's own HTTP server on a loopback port, for one model file."""

    def __init__(self, model, threads):
        options = xllamacpp.CommonParams()
        options.model.path = str(model)
        options.n_ctx, options.n_parallel, options.n_gpu_layers = 512, 1, 0
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
        options.warmup, options.use_jinja, options.port, options.verbosity = False, True, 0, -1
        self.server = xllamacpp.Server(options)

    def post(self, path, body):
        request = urllib.request.Request(f"{self.server.listening_address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return json.load(answer)

    def chat(self, messages):
        """The answer's text, and whether the model ended it itself."""
        body = {"messages": messages, "temperature": 0, "max_tokens": MOST_TOKENS, "cache_prompt": False}
        choice = self.post("/v1/chat/completions", body)["choices"][0]
        return choice["message"]["content"], choice["finish_reason"] == "stop"

    def tokens(self, messages):
        """Prompt after the chat template, its token ids, and the generated ids."""
        prompt = self.post("/apply-template", {"messages": messages})["prompt"]
        ids = self.post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        answer = self.post("/completion", {"prompt": ids, "temperature": 0, "n_predict": RECORDED_TOKENS, "return_tokens": True, "cache_prompt": False})
        return {"prompt": prompt, "prompt_tokens": ids, "generated_tokens": answer["tokens"], "text": answer["content"]}


def ask(llama, entries, wrong):
    right = 0
    for entry in entries:
        text, ended = llama.chat(entry["messages"])
        if text == entry["expected"] and ended:
            right += 1
        else:
            wrong.append((entry["messages"][-1]["content"], text, entry["expected"]))
    return right


def record(llama, model, lists, to):
    entries = []
    for messages in questions.compared(lists):
        entry = {"messages": messages, **llama.tokens(messages)}
        ours = dialogue.prompt([(message["role"], message["content"]) for message in messages])
        if entry["prompt"] != ours:
            raise SystemExit(f"llama.cpp made another prompt of the chat template:\n{entry['prompt']!r}\n{ours!r}")
        entries.append(entry)
    head = {"model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "temperature": 0, "most_tokens": RECORDED_TOKENS}
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    to.write_text(json.dumps(head)[:-1] + ', "prompts": [\n' + lines + "\n]}\n")
    print(f"{to}: {len(entries)} prompts")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("--questions", type=pathlib.Path, default=HERE / "expected" / "questions.json")
    arguments.add_argument("--record", type=pathlib.Path, nargs="?", const=HERE / "expected" / "llama-cpp-tokens.json",
                           help="also write llama.cpp's token ids here")
    arguments.add_argument("--least", type=float, default=LEAST_KNOWN_SHARE, help="fail below this share of known nouns right")
    arguments.add_argument("--limit", type=int, help="ask only so many questions of each list")
    arguments.add_argument("--only-generate", action="store_true", help="see that the model loads and says something; judge nothing")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--show", type=int, default=10, help="how many wrong answers to print for each list")
    options = arguments.parse_args()
    lists = json.loads(options.questions.read_text())
    llama = LlamaCpp(options.model, options.threads)
    if options.only_generate:
        said = llama.tokens(lists["known"][0]["messages"])
        print(f"llama.cpp generated {len(said['generated_tokens'])} tokens: {said['text']!r}")
        sys.exit(None if said["generated_tokens"] else "the model generated nothing")

    shares = {}
    for name, entries in lists.items():
        entries, wrong = entries[: options.limit], []
        right = ask(llama, entries, wrong)
        shares[name] = right / len(entries)
        print(f"{name}: {right} of {len(entries)} right")
        for asked, got, wanted in wrong[: options.show]:
            print(f"  {asked!r}\n    got    {got!r}\n    wanted {wanted!r}")
    if options.record:
        record(llama, options.model, lists, options.record)
    if shares["known"] < options.least:
        sys.exit(f"too few known words right: {shares['known']:.1%}, at least {options.least:.0%} are needed")


if __name__ == "__main__":
    main()
