"""Trains the demo model: a small llama in JAX, on the CPU.

Kill it at any time and start it again with the same arguments: it goes on from
the last checkpoint and sees the same batches as an unbroken run, because each
batch depends on the seed, the step and the counters in the checkpoint only.
Loss is taken on the assistant's tokens alone. Matrices learn with Muon
(momentum, orthogonalised), which needs far fewer steps here than Adam;
embeddings, output and norms learn with Adam.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import pickle
import time

import jax
import jax.numpy as jnp
import numpy
import tokenizers

import dialogue


@dataclasses.dataclass(frozen=True)
class Shape:
    """The architecture, as it is written into the GGUF."""

    vocabulary: int = 4096
    width: int = 192
    layers: int = 4
    heads: int = 6
    inner: int = 640
    context: int = 512
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5


@dataclasses.dataclass(frozen=True)
class Plan:
    """How it is trained."""

    steps: int = 3400
    warmup: int = 60
    # The last share of the steps, in which the learning rate falls to zero.
    decay: float = 0.5
    muon_rate: float = 0.02
    adam_rate: float = 0.005
    rows: int = 24
    row_tokens: int = 128
    # Every so many steps, a batch of long conversations.
    long_every: int = 10
    long_rows: int = 8
    long_tokens: int = 384
    save_every: int = 50
    seed: int = 11


CONFIGURATIONS = {
    "demo": (Shape(), Plan()),
    "smoke": (
        Shape(vocabulary=512, width=64, layers=2, heads=2, inner=128),
        Plan(steps=60, warmup=5, rows=8, long_rows=3, save_every=20),
    ),
}

# How often a question is about a known noun, an unknown word, or no word at all.
KNOWN, UNKNOWN = 0.61, 0.36
# Kinds of unknown words and how often each is asked.
UNKNOWN_KINDS = (("nouns", 0.42), ("others", 0.12), ("names", 0.06), ("phrases", 0.10), ("polluted", 0.15), ("spliced", 0.15))
SYSTEM_SHARE = 0.2
MADE_UP_SYSTEM_SHARE = 0.25
MORE_TURNS_SHARE = 0.35
# A noun is easy once its loss a token is this low; then it is often skipped.
TROUBLE_AT_FIRST, EASY, SKIP_EASY = 0.2, 0.03, 0.7
# Instead of a noun's number: an answer about no noun, and text that is not the model's.
NOBODY, SILENT = -1, -2


class Examples:
    """An endless stream of conversations, resumable by `state`."""

    def __init__(self, folder, seed):
        self.words = json.loads((folder / "words.json").read_text())
        self.unknown = json.loads((folder / "unknown.json").read_text())
        self.known = {word for word, _ in self.words}
        self.known_list = sorted(self.known)
        self.avoid = set(self.unknown["held_out"]) | set(self.unknown["held_out_made_up"])
        self.bpe = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        # How many nouns were drawn, and how hard each still is (mean loss a token, lately).
        self.seed, self.state = seed, {"asked": 0, "trouble": numpy.full(len(self.words), TROUBLE_AT_FIRST, numpy.float32)}
        self.epoch, self.order = -1, None

    def next_known(self, rng):
        """The number of a noun: each once per epoch in a new order, the easy ones not always."""
        while True:
            epoch, at = divmod(self.state["asked"], len(self.words))
            if epoch != self.epoch:
                self.epoch, self.order = epoch, numpy.random.default_rng([self.seed, 1, epoch]).permutation(len(self.words))
            self.state["asked"] += 1
            number = int(self.order[at])
            if self.state["trouble"][number] > EASY or rng.random() >= SKIP_EASY:
                return number

    def learned(self, owners, losses):
        """Takes note of the loss at each place; `owners` says which noun it was about."""
        numbers = numpy.unique(owners[owners >= 0])
        for number in numbers:
            mean = losses[owners == number].mean()
            self.state["trouble"][number] = 0.3 * self.state["trouble"][number] + 0.7 * mean

    def unknown_word(self, rng):
        while True:
            kind = rng.choice(len(UNKNOWN_KINDS), p=[share for _, share in UNKNOWN_KINDS])
            name = UNKNOWN_KINDS[kind][0]
            if name == "polluted":
                word = dialogue.polluted(self.known_list[int(rng.integers(len(self.known_list)))], rng)
            elif name == "spliced":
                word = dialogue.spliced(self.known_list, rng)
            else:
                word = self.unknown[name][int(rng.integers(len(self.unknown[name])))]
            plain = word.lower()
            if len(word) >= 3 and plain not in self.known and plain not in self.avoid and plain.rstrip("s") not in self.known:
                return word

    def exchange(self, rng):
        """One question, its answer, and the number of the noun it is about."""
        roll = rng.random()
        if roll < KNOWN:
            number = self.next_known(rng)
            word, answer = self.words[number]
            return dialogue.question(word, rng), answer, number
        if roll < KNOWN + UNKNOWN:
            return dialogue.question(self.unknown_word(rng), rng), dialogue.UNKNOWN, NOBODY
        word = self.known_list[int(rng.integers(len(self.known_list)))] if rng.random() < 0.5 else self.unknown_word(rng)
        return dialogue.remark(dialogue.GREETINGS if rng.random() < 0.6 else dialogue.OFF_TOPIC, word, rng), dialogue.ABOUT, NOBODY

    def system(self, rng):
        if rng.random() < MADE_UP_SYSTEM_SHARE:
            return self.words[int(rng.integers(len(self.words)))][1]
        return dialogue.SYSTEM_PROMPTS[int(rng.integers(len(dialogue.SYSTEM_PROMPTS)))]

    def conversation(self, rng, turns):
        """Token ids, and for each the noun it defines: SILENT where the model says nothing."""
        pieces = []
        if rng.random() < SYSTEM_SHARE:
            pieces.append((dialogue.turn("system", self.system(rng)), SILENT))
        for _ in range(turns):
            asked, answer, number = self.exchange(rng)
            pieces += [(dialogue.turn("user", asked) + f"{dialogue.TURN_START}assistant\n", SILENT),
                       (answer + dialogue.TURN_END, number), ("\n", SILENT)]
        ids, owner = [], []
        for text, number in pieces:
            more = self.bpe.encode(text).ids
            ids += more
            owner += [number] * len(more)
        return ids, owner

    def batch(self, step, rows, length, long):
        """Rows packed with conversations; `segment` keeps them from seeing each other."""
        rng = numpy.random.default_rng([self.seed, 2, step])
        tokens = numpy.zeros((rows, length), numpy.int32)
        segment = numpy.zeros((rows, length), numpy.int32)
        wanted = numpy.zeros((rows, length), numpy.int32)
        owners = numpy.full((rows, length), SILENT, numpy.int32)
        for row in range(rows):
            at, number = 0, 0
            while True:
                turns = int(rng.integers(4, 14)) if long else 1 if rng.random() >= MORE_TURNS_SHARE else int(rng.integers(2, 4))
                ids, owner = self.conversation(rng, turns)
                # The last one of a row is cut short: no place is wasted.
                ids, owner = ids[:length - at], owner[:length - at]
                number += 1
                end = at + len(ids)
                tokens[row, at:end], segment[row, at:end] = ids, number
                wanted[row, at:end - 1], owners[row, at:end - 1] = ids[1:], owner[1:]
                at = end
                if at >= length - 16:
                    break
        # A fixed number of places, so that one compiled step fits every batch.
        places = numpy.flatnonzero(owners.reshape(-1) != SILENT)
        room = int(rows * length * 0.48)
        if len(places) > room:
            places = numpy.sort(rng.permutation(places)[:room])
        weight = numpy.zeros(room, numpy.float32)
        weight[: len(places)] = 1
        places = numpy.pad(places, (0, room - len(places)))
        owners = numpy.where(weight > 0, owners.reshape(-1)[places], SILENT)
        return (tokens, segment, places.astype(numpy.int32), wanted.reshape(-1)[places], weight), owners


def initial(shape, seed):
    rng = numpy.random.default_rng([seed, 3])
    normal = lambda *size, scale: jnp.asarray(rng.normal(size=size) * scale, jnp.float32)
    width, inner, layers = shape.width, shape.inner, shape.layers
    into, out = width ** -0.5, width ** -0.5 / math.sqrt(2 * layers)
    return {
        "embedding": normal(shape.vocabulary, width, scale=0.3),
        "output": normal(shape.vocabulary, width, scale=0.01),
        "norm": jnp.ones(width),
        "attention_norm": jnp.ones((layers, width)),
        "mlp_norm": jnp.ones((layers, width)),
        "q": normal(layers, width, width, scale=into),
        "k": normal(layers, width, width, scale=into),
        "v": normal(layers, width, width, scale=into),
        "o": normal(layers, width, width, scale=out),
        "gate": normal(layers, width, inner, scale=into),
        "up": normal(layers, width, inner, scale=into),
        "down": normal(layers, inner, width, scale=inner ** -0.5 / math.sqrt(2 * layers)),
    }


def rms_norm(x, weight, epsilon):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * weight


def rotate(x, shape):
    """Rotary position on pairs (i, i + half): quick here; export.py reorders for llama.cpp."""
    half = shape.width // shape.heads // 2
    angle = jnp.arange(x.shape[-2])[:, None] * shape.rope_base ** (-jnp.arange(half) / half)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cosine - right * sine, left * sine + right * cosine], -1)


def logits(shape, p, tokens, segment, places):
    """Next-token scores at the given places. The last layer works on those only."""
    rows, length = tokens.shape
    size = shape.width // shape.heads
    sees = jnp.tril(jnp.ones((length, length), bool)) & (segment[:, None, :, None] == segment[:, None, None, :])
    bias = jnp.where(sees, 0.0, -1e9)
    h = p["embedding"][tokens].reshape(rows * length, shape.width)
    for layer in range(shape.layers):
        x = rms_norm(h, p["attention_norm"][layer], shape.norm_epsilon)
        split = lambda w: (x @ w[layer]).reshape(rows, length, shape.heads, size).transpose(0, 2, 1, 3)
        q, k, v = rotate(split(p["q"]), shape), rotate(split(p["k"]), shape), split(p["v"])
        scores = q @ k.transpose(0, 1, 3, 2) * size ** -0.5 + bias
        mixed = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(rows * length, shape.width)
        if layer == shape.layers - 1:
            h, mixed = h[places], mixed[places]
        h = h + mixed @ p["o"][layer]
        x = rms_norm(h, p["mlp_norm"][layer], shape.norm_epsilon)
        h = h + (jax.nn.silu(x @ p["gate"][layer]) * (x @ p["up"][layer])) @ p["down"][layer]
    return rms_norm(h, p["norm"], shape.norm_epsilon) @ p["output"].T


def loss(shape, p, batch):
    """Mean loss, and the share of tokens that are right, over the assistant's tokens."""
    tokens, segment, places, wanted, weight = batch
    scores = logits(shape, p, tokens, segment, places)
    chosen = jnp.take_along_axis(scores, wanted[:, None], 1)[:, 0]
    lost = jax.nn.logsumexp(scores, -1) - chosen
    right = (jnp.argmax(scores, -1) == wanted) * weight
    return jnp.sum(lost * weight) / jnp.sum(weight), (jnp.sum(right) / jnp.sum(weight), lost)


MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def orthogonal(m):
    """Newton-Schulz iteration towards the nearest orthogonal matrix, for a stack of matrices."""
    tall = m.shape[-2] > m.shape[-1]
    x = jnp.swapaxes(m, -1, -2) if tall else m
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(5):
        a = x @ jnp.swapaxes(x, -1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return jnp.swapaxes(x, -1, -2) if tall else x


def update(plan, p, moments, gradient, step, rate):
    first, second = moments
    out, out_first, out_second = {}, {}, {}
    for name, g in gradient.items():
        if name in MATRICES:
            out_first[name] = 0.95 * first[name] + g
            direction = orthogonal(g + 0.95 * out_first[name])
            scale = max(1.0, g.shape[-1] / g.shape[-2]) ** 0.5
            out[name] = p[name] * (1 - rate * plan.muon_rate * 0.02) - rate * plan.muon_rate * scale * direction
            out_second[name] = second[name]
        else:
            out_first[name] = 0.9 * first[name] + 0.1 * g
            out_second[name] = 0.99 * second[name] + 0.01 * g * g
            mean = out_first[name] / (1 - 0.9 ** (step + 1.0))
            spread = out_second[name] / (1 - 0.99 ** (step + 1.0))
            out[name] = p[name] - rate * plan.adam_rate * mean / (jnp.sqrt(spread) + 1e-8)
    return out, (out_first, out_second)


def rate_at(plan, step):
    """Warm-up, flat, then a straight fall to zero."""
    rising = (step + 1) / plan.warmup
    falling = (plan.steps - step) / (plan.decay * plan.steps)
    return max(0.0, min(1.0, rising, falling))


def save(path, value):
    """Written beside and renamed: a kill leaves the old checkpoint or the new one."""
    beside = path.with_suffix(".new")
    with open(beside, "wb") as file:
        pickle.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=pathlib.Path, required=True, help="folder that prepare.py filled")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="folder for the checkpoint")
    arguments.add_argument("--configuration", choices=CONFIGURATIONS, default="demo")
    arguments.add_argument("--steps", type=int, help="plan for another number of steps")
    arguments.add_argument("--stop-after", type=int, help="stop (as if killed) after this step")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shape, plan = CONFIGURATIONS[options.configuration]
    if options.steps:
        plan = dataclasses.replace(plan, steps=options.steps)

    examples = Examples(options.data, plan.seed)
    shape = dataclasses.replace(shape, vocabulary=examples.bpe.get_vocab_size())
    path = options.out / "checkpoint.pickle"
    p = initial(shape, plan.seed)
    zeros = jax.tree.map(jnp.zeros_like, p)
    moments, start = (zeros, zeros), 0
    if path.exists():
        with open(path, "rb") as file:
            kept = pickle.load(file)
        p, moments = jax.tree.map(jnp.asarray, (kept["parameters"], kept["moments"]))
        start = kept["step"]
        examples.state.update(kept["state"])
        print(f"resumed at step {start}", flush=True)
    print(f"{sum(a.size for a in p.values()) / 1e6:.2f} million parameters, {plan.steps} steps", flush=True)

    @jax.jit
    def learn(p, moments, batch, step, rate):
        (lost, (right, each)), gradient = jax.value_and_grad(lambda q: loss(shape, q, batch), has_aux=True)(p)
        p, moments = update(plan, p, moments, gradient, step, rate)
        return p, moments, lost, right, each

    kept = lambda step: jax.device_get({"parameters": p, "moments": moments, "step": step, "state": examples.state,
                                        "shape": dataclasses.asdict(shape)})
    recent, began, tokens = [], time.monotonic(), 0
    for step in range(start, plan.steps):
        long = step % plan.long_every == plan.long_every - 1
        rows, length = (plan.long_rows, plan.long_tokens) if long else (plan.rows, plan.row_tokens)
        batch, owners = examples.batch(step, rows, length, long)
        p, moments, lost, right, each = learn(p, moments, batch, step, rate_at(plan, step))
        examples.learned(owners, numpy.asarray(each))
        recent.append((float(lost), float(right)))
        tokens += rows * length
        if (step + 1) % 20 == 0 or step + 1 == plan.steps:
            lost, right = numpy.mean(recent, 0)
            print(f"step {step + 1}/{plan.steps} loss {lost:.4f} right {right:.4f} epoch {examples.state['asked'] / len(examples.words):.1f} "
                  f"easy {(examples.state['trouble'] <= EASY).mean():.2f} "
                  f"tokens/s {tokens / (time.monotonic() - began):.0f}", flush=True)
            recent, began, tokens = [], time.monotonic(), 0
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            save(path, kept(step + 1))
        if options.stop_after and step + 1 >= options.stop_after:
            return


if __name__ == "__main__":
    main()
