"""Can one who sees packets only tell two kinds of answers apart? Sizes and times of packets on the consumer's cable,
given to classifiers; beside it, as the control, the same for the unsealed answers behind the provider.

usage: classify.py LETHE STREAMS_OF_EACH_KIND
"""

import atexit
import json
import os
import pathlib
import random
import re
import sys
import tempfile
import threading
import time

import numpy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hosts
from capture import TCP, UDP, Capture
from market import Market

CONSUMERS = 6
# As many pieces, if the kinds do not differ in that; their mean distance; and how long every question is made.
PIECES, GAP_MS, QUESTION_BYTES = 40, 10.0, 4000
# The flags of a consumer, what is looked at behind its answer's last word, and the most streams of each kind.
MODES = {"fast": ((), 0.0, 10_000), "paced": (("--paced",), 3.5, 60)}
# Between two answers of a consumer.
REST_S = 0.03
SEED = 1
# Two chunks that differ by a few bytes are in one and in two cells if what is around them is this long.
EDGE = "f" * 15

chance = random.Random(SEED)


def words(mean):
    return [chance.choice("abcdefgh") * max(1, min(14, round(chance.gauss(mean, 2)))) for _ in range(PIECES)]


def gaps(count, mean=GAP_MS):
    return [round(chance.gammavariate(6, mean / 6), 2) for _ in range(count)]


def by_words(kind):
    return {"pieces": words((3, 7)[kind]), "gaps_ms": gaps(PIECES)}


def by_words_at_the_edge(kind):
    return by_words(kind) | {"fingerprint": EDGE}


def by_pace(kind):
    return {"pieces": words(4), "gaps_ms": gaps(PIECES, (GAP_MS * 0.85, GAP_MS * 1.15)[kind])}


def by_length(kind):
    count = max(10, round(chance.gauss((34, 46)[kind], 6)))
    return {"pieces": [chance.choice("abcdefgh") * 4 for _ in range(count)], "gaps_ms": gaps(count)}


DIFFERENCES = {
    "lengths of words": by_words,
    "lengths of words, a cell's edge between": by_words_at_the_edge,
    "pace": by_pace,
    "length of the answer": by_length,
}


def ports_of(pid):
    """The UDP ports of a process."""
    sockets = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    with open(f"/proc/{pid}/net/udp") as table:
        rows = [line.split() for line in table][1:]
    return {int(row[1].split(":")[1], 16) for row in rows if f"socket:[{row[9]}]" in sockets}


def features(seen):
    """Of packets as (time, size), in their order."""
    times, sizes = (numpy.array(column, dtype=float) for column in zip(*seen))
    between = numpy.diff(times) if len(times) > 1 else numpy.zeros(1)
    long = between[between > 0.002] if (between > 0.002).any() else numpy.zeros(1)
    histogram = numpy.histogram(sizes, bins=[0, 80, 120, 200, 280, 330, 360, 420, 600, 700, 1000, 1300, 1600, 1e9])[0]
    spread = lambda values: [values.mean(), values.std(), *numpy.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])]
    return [len(sizes), sizes.sum(), times[-1] - times[0], *spread(sizes), *spread(between), *spread(long), *histogram]


def streams(market, clients, make, each, behind, folder):
    """Runs the streams; features and kinds, from the consumer's cable and from behind the provider."""
    kinds = [0, 1] * each
    chance.shuffle(kinds)
    left = [(kind, json.dumps({"kind": kind} | make(kind)).ljust(QUESTION_BYTES)) for kind in kinds]
    done, errors = [], []

    def work(client):
        ports = ports_of(client.process.pid)
        while True:
            try:
                kind, question = left.pop()
            except IndexError:
                return
            begun = time.time()
            try:
                client.ask(question)
            except Exception as error:
                errors.append(error)
                return
            done.append((begun, time.time(), ports, kind))
            time.sleep(behind + REST_S)

    with Capture(hosts.space(hosts.ROUTER), folder / "wire") as wire:
        with Capture(hosts.space("provider"), folder / "inside") as inside:
            workers = [threading.Thread(target=work, args=(client,)) for client in clients]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    if errors or wire.missed:
        raise RuntimeError(f"{wire.missed} packets missed, {errors[:1]}")

    flows = {}
    for packet in wire.of(hosts.port("consumer")):
        if packet.protocol == UDP and packet.target == hosts.ADDRESSES["consumer"]:
            flows.setdefault(packet.ports[1], []).append((packet.at, packet.length))
    sealed = []
    for begun, ended, ports, kind in done:
        seen = [one for port in ports for one in flows.get(port, []) if begun <= one[0] <= ended + behind]
        sealed.append((features(sorted(seen)), kind))

    clear, kind_of = {}, {}
    for packet in inside.of("lo"):
        if packet.protocol != TCP or not packet.payload:
            continue
        if packet.ports[1] == market.backend:
            said = re.search(rb'\\"kind\\": ?([01])', packet.payload)
            if said:
                kind_of[packet.ports[0]] = int(said[1])
        elif packet.ports[0] == market.backend:
            clear.setdefault(packet.ports[1], []).append((packet.at, len(packet.payload)))
    return sealed, [(features(clear[port]), kind) for port, kind in kind_of.items() if port in clear]


def auc(samples):
    """The better of two classifiers, each judged on streams that it had not seen."""
    found, kinds = (numpy.array(column) for column in zip(*samples))
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    boosting = GradientBoostingClassifier(n_estimators=120, max_depth=3, subsample=0.7, random_state=SEED)
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.3))
    judge = lambda model: cross_val_predict(model, found, kinds, cv=folds, method="predict_proba")[:, 1]
    return max(roc_auc_score(kinds, judge(model)) for model in (boosting, line))


def main():
    lethe, each = sys.argv[1], int(sys.argv[2])
    atexit.register(hosts.forget)
    print("| the kinds differ in | in clear | sealed | sealed, `--paced` | streams |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="lethe-classify-") as folder:
        folder = pathlib.Path(folder)
        hosts.build()
        market = Market(lethe, folder)
        try:
            market.open()
            groups = {}
            for mode, (flags, _, _) in MODES.items():
                names = [f"{mode}{n}" for n in range(CONSUMERS)]
                groups[mode] = [market.consumer(name, *flags).live() for name in names]
                for client in groups[mode]:
                    client.ask("hello")  # dials, deposits
            for difference, make in DIFFERENCES.items():
                row = {}
                for mode, clients in groups.items():
                    _, behind, most = MODES[mode]
                    where = folder / f"{difference} {mode}"
                    row[mode], clear = streams(market, clients, make, min(each, most), behind, where)
                    row.setdefault("clear", clear)
                figures = " | ".join(f"{auc(row[column]):.2f}" for column in ("clear", "fast", "paced"))
                print(f"| {difference} | {figures} | {len(row['fast'])} + {len(row['paced'])} |", flush=True)
        finally:
            market.close()
            hosts.remove()


main()
