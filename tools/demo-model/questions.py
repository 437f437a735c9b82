"""Writes the list of questions with expected answers that check.py asks.

Deterministic, and kept under `expected/`, so that a number in the README can
be held against the very questions it was measured on. Run it again only when
words or phrasings change.
"""

import argparse
import json
import pathlib

import numpy

import dialogue

SEED = 23
KNOWN, IN_CONTEXT, UNKNOWN, ABOUT = 200, 100, 200, 20
# The prompts compared token by token between llama.cpp and the node's engine.
COMPARED = {"known": 60, "known_in_context": 15, "unknown": 18, "about": 7}


def asked(messages, expected, **more):
    return {"messages": [{"role": role, "content": text} for role, text in messages], "expected": expected, **more}


def in_context(words, word, answer, rng):
    """The same question behind a system prompt, earlier turns, or both."""
    kind = int(rng.integers(3))
    messages = []
    if kind != 1:
        messages.append(("system", dialogue.SYSTEM_PROMPTS[0]))
    if kind != 0:
        for _ in range(1 + int(rng.integers(2))):
            earlier, reply = words[int(rng.integers(len(words)))]
            messages += [("user", dialogue.phrase(dialogue.PHRASINGS[0], earlier)), ("assistant", reply)]
    messages.append(("user", dialogue.question(word, rng)))
    return asked(messages, answer, word=word)


def questions(words, unknown):
    rng = numpy.random.default_rng(SEED)
    chosen = rng.permutation(len(words))[: KNOWN + IN_CONTEXT]
    known = [words[at] for at in chosen[:KNOWN]]
    real = [unknown["held_out"][at] for at in rng.permutation(len(unknown["held_out"]))[: UNKNOWN // 2]]
    made_up = [unknown["held_out_made_up"][at] for at in rng.permutation(len(unknown["held_out_made_up"]))[: UNKNOWN // 2]]
    plain = lambda word: dialogue.phrase(dialogue.PHRASINGS[0], word)
    either = lambda word: plain(word) if rng.random() < 0.5 else dialogue.question(word, rng)
    return {
        "known": [asked([("user", either(word))], answer, word=word) for word, answer in known],
        "known_in_context": [in_context(words, *words[at], rng) for at in chosen[KNOWN:]],
        "unknown": [asked([("user", either(word))], dialogue.UNKNOWN, word=word, made_up=word in unknown["held_out_made_up"])
                    for word in real + made_up],
        "about": [asked([("user", dialogue.remark(dialogue.GREETINGS, "word", rng))], dialogue.ABOUT) for _ in range(ABOUT)],
    }


def compared(lists):
    """The prompts for the comparison, spread over each list."""
    picked = []
    for name, count in COMPARED.items():
        every = len(lists[name]) / count
        picked += [lists[name][int(at * every)]["messages"] for at in range(count)]
    return picked


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=pathlib.Path, required=True, help="folder that prepare.py filled")
    arguments.add_argument("--to", type=pathlib.Path, default=pathlib.Path(__file__).parent / "expected" / "questions.json")
    options = arguments.parse_args()
    load = lambda name: json.loads((options.data / name).read_text())
    lists = questions(load("words.json"), load("unknown.json"))
    lines = [f'"{name}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for name, entries in lists.items()]
    options.to.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{options.to}: " + ", ".join(f"{len(entries)} {name}" for name, entries in lists.items()))


if __name__ == "__main__":
    main()
