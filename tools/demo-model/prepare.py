"""Builds everything that training needs: words, unknown words and the tokenizer.

Writes to the work folder: `words.json` (the known nouns with their answers),
`unknown.json` (unknown words for training, and others held out for the
measurement), `tokenizer.json`. Deterministic: same WordNet, same files.
"""

import argparse
import json
import pathlib
import random

import tokenizers

import dialogue
import wordnet

SEED = 7
HELD_OUT_REAL = 400
HELD_OUT_MADE_UP = 200


def is_form_of(word, known):
    """Plurals and other plain forms of known nouns are neither known nor unknown."""
    stems = [word]
    for ending in ("s", "es", "er", "ing", "ed", "ly"):
        if word.endswith(ending):
            stems += [word[: -len(ending)], word[: -len(ending)] + "e"]
    if word.endswith("ies"):
        stems.append(word[:-3] + "y")
    return any(stem in known for stem in stems)


def unknown_words(known):
    """Real words of WordNet outside the known nouns, by kind."""
    nouns, phrases, names, others = set(), set(), set(), set()
    for _, spelled, _ in wordnet.noun_synsets().values():
        for word in spelled:
            word = word.replace("_", " ")
            if not word.replace(" ", "").isascii() or not word.replace(" ", "").isalpha() or len(word) > 24:
                continue
            if " " in word:
                phrases.add(word.lower())
            elif word.islower():
                nouns.add(word)
            else:
                names.add(word)
    for part in ("verb", "adj", "adv"):
        others.update(w for w in wordnet.lemmas(part) if w.isalpha() and w.isascii())
    fits = lambda word: len(word) >= 3 and not is_form_of(word.lower(), known)
    return {
        "nouns": sorted(filter(fits, nouns)),
        "phrases": sorted(phrases),
        "names": sorted(filter(fits, names)),
        "others": sorted(filter(fits, others - nouns)),
    }


def made_up(known, count, avoid, rng):
    """Words that no dictionary has."""
    import numpy

    rng, words = numpy.random.default_rng(rng.getrandbits(32)), sorted(known)
    found = set()
    while len(found) < count:
        word = dialogue.spliced(words, rng) if len(found) % 2 else dialogue.polluted(words[int(rng.integers(len(words)))], rng)
        if word not in avoid and not is_form_of(word, known):
            found.add(word)
    return sorted(found)


def train_tokenizer(words, unknown, size):
    """A byte-level BPE with GPT-2's pre-tokenisation, the one llama.cpp calls `gpt-2`."""
    texts = []
    for word, answer in words:
        texts += [f"user\n{dialogue.phrase(p, word)}" for p in dialogue.PHRASINGS[:4]]
        texts += [f"assistant\n{answer}"] * 4
        texts += [f" {word}"] * 3 + [word, word.capitalize()]
    texts += [f" {word}" for word in unknown["nouns"][::4]] + [f" {word}" for word in unknown["phrases"][::20]]
    texts += [*dialogue.GREETINGS, *dialogue.OFF_TOPIC, *dialogue.SYSTEM_PROMPTS, "system\n"] * 20
    texts += [dialogue.ABOUT, dialogue.UNKNOWN] * 200
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(dialogue.CONTROL_TOKENS), show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return bpe


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder for data and checkpoints")
    arguments.add_argument("--nouns", type=int, default=3000)
    arguments.add_argument("--vocabulary", type=int, default=4096)
    options = arguments.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    rng = random.Random(SEED)
    words = wordnet.common_nouns(options.nouns)
    known = {word for word, _ in words}
    unknown = unknown_words(known)
    held_out = sorted(rng.sample(unknown["nouns"], HELD_OUT_REAL))
    unknown["nouns"] = sorted(set(unknown["nouns"]) - set(held_out))
    everything = known | set(held_out) | set(unknown["nouns"]) | set(unknown["others"])
    invented = made_up(known, HELD_OUT_MADE_UP, everything, rng)

    write = lambda name, value: (options.work / name).write_text(json.dumps(value, indent=0) + "\n")
    write("words.json", words)
    write("unknown.json", {**unknown, "held_out": held_out, "held_out_made_up": invented})
    bpe = train_tokenizer(words, unknown, options.vocabulary)
    bpe.save(str(options.work / "tokenizer.json"))
    single = sum(len(bpe.encode(f" {word}").ids) == 1 for word in known)
    tokens = sum(len(bpe.encode(answer).ids) for _, answer in words) / len(words)
    print(f"{len(words)} nouns, {tokens:.1f} tokens an answer, {single} nouns are one token; "
          f"{sum(map(len, unknown.values()))} unknown words; vocabulary {bpe.get_vocab_size()}")


if __name__ == "__main__":
    main()
