"""Asks llama.cpp what `examples/bench.rs` asks this engine: tokens and seconds.

    pip install xllamacpp
    python llama_cpp.py MODEL.gguf --threads 1 --prompt "What is a glacier?" --tokens 100

With --ids, prints the ids of the answer at temperature 0 as JSON instead of timings.
"""

import argparse
import json
import urllib.request

import xllamacpp


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", action="append")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.path
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = 0
    params.warmup, params.use_jinja, params.port, params.verbosity = True, True, 0, -1
    server = xllamacpp.Server(params)

    def post(path, body):
        request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    for prompt in options.prompt or ["What is a glacier?"]:
        text = post("/apply-template", {"messages": [{"role": "user", "content": prompt}]})["prompt"]
        ids = post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        for _ in range(1 if options.ids else options.rounds):
            answer = post("/completion", {"prompt": ids, "temperature": 0, "n_predict": options.tokens,
                                          "return_tokens": True, "cache_prompt": False, "ignore_eos": not options.ids})
            if options.ids:
                print(json.dumps({"prompt": prompt, "ids": answer["tokens"], "prompt_ids": ids}))
            else:
                timings = answer["timings"]
                print(f"prompt {timings['prompt_n']} tokens, {timings['prompt_per_second']:.1f}/s; "
                      f"answer {timings['predicted_n']} tokens, {timings['predicted_per_second']:.1f}/s")


if __name__ == "__main__":
    main()
