"""WordNet 3.0 as plain records: lemmas, tag counts and cleaned definitions.

Reads the files of the Debian package `wordnet-base` directly, since all that
is needed is the first sense of a noun and how often it was tagged in running
text. Everything about questions and answers lives in `dialogue.py`.
"""

import collections
import math
import os
import re

FOLDER = os.environ.get("WORDNET", "/usr/share/wordnet")

# Glosses longer than this are left out: they are encyclopedia entries.
MAX_GLOSS_WORDS = 18
MIN_WORD_LETTERS = 3

# Always among the chosen nouns: first examples that people try.
EXAMPLES = ("elephant", "giraffe", "glacier", "guitar", "planet", "robot", "volcano")

# Rarely tagged gerunds ("finishing") crowd out things that people ask for.
GERUND_TAGS = 20

# Lexicographer files (see lexnames(5WN)) whose nouns usually take no article.
MASS_FILES = {4, 7, 9, 12, 13, 19, 21, 22, 26, 27}
# Below this share of "a X" among all "X" in the glosses, a noun is a mass noun.
COUNT_NOUN_SHARE = 0.02
COUNT_NOUN_SHARE_IN_MASS_FILES = 0.10
COUNT_NOUN_EVIDENCE = 8

DETERMINERS = set(
    "a an the any one some all each every either both several many two three four five six seven someone somebody something anyone anything "
    "everything everyone what how when where this that these those his her its your their no not most more being".split())
AFTER_HEAD = set(
    "of that which who whose with in for to at on by from as into between where when usually often having used made consisting containing "
    "is are near during through after before against about without within such especially than under over along around directed based native".split())

UNFIT = re.compile(r"slur|offensive|obscene|disparag|derogatory|vulgar|taboo|sexual", re.I)


def _lines(name):
    with open(os.path.join(FOLDER, name), encoding="latin-1") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("  ")]


def lemmas(part):
    """All lemmas of one part of speech, in index order, with their synset offsets."""
    found = {}
    for line in _lines(f"index.{part}"):
        fields = line.split()
        pointers = int(fields[3])
        found[fields[0]] = [int(offset) for offset in fields[6 + pointers:]]
    return found


def noun_synsets():
    """Offset -> (lexicographer file, words as spelled, gloss)."""
    found = {}
    for line in _lines("data.noun"):
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        count = int(fields[3], 16)
        found[int(fields[0])] = (int(fields[1]), fields[4:4 + 2 * count:2], gloss.strip())
    return found


def all_glosses():
    """Every gloss, examples included: evidence of how words are used."""
    return [line.split(" | ", 1)[1] for part in ("noun", "verb", "adj", "adv") for line in _lines(f"data.{part}")]


def tag_counts():
    """How often each noun was tagged in WordNet's running text."""
    counts = collections.Counter()
    for line in _lines("cntlist.rev"):
        key, _, count = line.split()
        lemma, sense = key.split("%")
        if sense.startswith("1:"):
            counts[lemma] += int(count)
    return counts


def clean(gloss):
    """The first definition of a gloss as the end of a sentence, or None when unfit."""
    if UNFIT.search(gloss):
        return None
    text = gloss.split("; \"")[0]
    text = re.sub(r"\([^()]*\)", " ", text)
    text = text.split(";")[0].split(":")[0].replace("`", "'")
    text = re.sub(r"\s+", " ", text).strip(" ,.-")
    text = re.sub(r" ([,.])", r"\1", text)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9 ,.'\-]*", text):
        return None
    if not 2 <= len(text.split()) <= MAX_GLOSS_WORDS:
        return None
    if re.match(r"(of|in|on|to|used|having|being|relating|characterized|that|who|which|with|by|for)\b", text):
        return None
    first = text.split()[0]
    if first in ("A", "An", "The", "Any", "One") or first.istitle() and first.lower() in ("act", "the", "in"):
        text = text[0].lower() + text[1:]
    return text


class Usage:
    """Word counts over all glosses, to tell common words and countable nouns."""

    def __init__(self):
        self.seen = collections.Counter()
        self.after_article = collections.Counter()
        for gloss in all_glosses():
            words = re.findall(r"[a-z]+", gloss.lower())
            self.seen.update(words)
            self.after_article.update(b for a, b in zip(words, words[1:]) if a in ("a", "an"))

    def countable(self, word, lexfile):
        if self.seen[word] >= COUNT_NOUN_EVIDENCE:
            least = COUNT_NOUN_SHARE_IN_MASS_FILES if lexfile in MASS_FILES else COUNT_NOUN_SHARE
            return self.after_article[word] / self.seen[word] >= least
        return lexfile not in MASS_FILES


def article(word):
    """`a` or `an`, by sound where the spelling misleads."""
    if re.match(r"(hour|honest|honor|honour|heir)", word):
        return "an"
    if re.match(r"(uni([^nm]|$)|use|usu|u[rt]i|eu|one\b|once|ewe|u$)", word):
        return "a"
    return "an" if word[0] in "aeiou" else "a"


def with_article(definition, usage, countable):
    """Many glosses leave out the article of a countable noun; a sentence needs it."""
    words = definition.split()
    if words[0].lower() in DETERMINERS or words[0].endswith("s") and not words[0].endswith("ss"):
        return definition
    if words[0].endswith("est") and len(words) > 2 and words[1] not in AFTER_HEAD:
        return f"the {definition}"
    head = words[0]
    for word in words[1:]:
        if word in AFTER_HEAD or word.endswith("ed") or head.endswith(","):
            break
        head = word
    head = head.strip(",")
    plural = head.endswith("s") and not head.endswith(("ss", "us", "is"))
    common = usage.seen[head] >= COUNT_NOUN_EVIDENCE
    takes_one = usage.after_article[head] >= COUNT_NOUN_SHARE_IN_MASS_FILES * usage.seen[head] if common else countable
    if plural or not head.isalpha() or not takes_one:
        return definition
    return f"{article(words[0])} {definition}"


def sentence(word, gloss, definition, countable):
    """One clean sentence that defines the word."""
    if "(plural)" in gloss or "(used in the plural)" in gloss:
        return f"{word.capitalize()} are {definition}."
    if countable:
        return f"{article(word).capitalize()} {word} is {definition}."
    return f"{word.capitalize()} is {definition}."


def common_nouns(count):
    """The `count` commonest nouns as (word, sentence), commonest first."""
    tags, usage, synsets, index = tag_counts(), Usage(), noun_synsets(), lemmas("noun")
    rank = lambda word: (-math.log1p(tags[word]) - 2 * math.log1p(usage.seen[word]), word)
    chosen = []
    for word in [*EXAMPLES, *sorted((w for w in index if tags[w] and w not in EXAMPLES), key=rank)]:
        if len(word) < MIN_WORD_LETTERS or not re.fullmatch(r"[a-z]+", word):
            continue
        if word.endswith("ing") and tags[word] < GERUND_TAGS:
            continue
        lexfile, spelled, gloss = synsets[index[word][0]]
        definition = clean(gloss)
        if word not in spelled or definition is None or word in definition.split():
            continue
        if word.endswith("s") and word[:-1] in index:
            continue
        countable = usage.countable(word, lexfile)
        definition = with_article(definition, usage, countable)
        chosen.append((word, sentence(word, gloss, definition, countable)))
        if len(chosen) == count:
            return chosen
    raise ValueError(f"WordNet in {FOLDER} has only {len(chosen)} fitting nouns, {count} were asked for")
