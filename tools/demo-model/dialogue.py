"""What the demo model is asked and what it answers.

One place for the chat template, the phrasings and the fixed answers, so that
training, export and check cannot disagree about them. The template here, the
Jinja text in the GGUF and the loss mask of the trainer say the same thing.
"""

import re

from wordnet import article

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

UNKNOWN = "I do not know that word."
ABOUT = "I am a small demonstration model. I know the definitions of about 3,000 nouns. Ask me: What is a glacier?"

# {a} is the article, {x} the word. The first is the plain form of the list.
PHRASINGS = (
    "What is {a} {x}?",
    "What is {x}?",
    "What is the {x}?",
    "What's {a} {x}?",
    "What does {x} mean?",
    "What does the word {x} mean?",
    "What does \"{x}\" mean?",
    "What is the meaning of {x}?",
    "What is the definition of {x}?",
    "Define {x}.",
    "Define {a} {x}.",
    "Define the word {x}.",
    "Define: {x}",
    "Tell me about {a} {x}.",
    "Tell me about the {x}.",
    "Tell me about {x}.",
    "Tell me what {a} {x} is.",
    "Can you tell me what {a} {x} is?",
    "Do you know what {a} {x} is?",
    "Can you define {x}?",
    "Please define {x}.",
    "Please tell me what {x} means.",
    "Explain {x}.",
    "Explain what {a} {x} is.",
    "Give me the definition of {x}.",
    "I want to know what {a} {x} is.",
    "And what is {a} {x}?",
    "Definition of {x}",
    "Meaning of {x}",
    "{x}",
    "{x}?",
)
# Half of all questions use one of the first eleven.
COMMON_PHRASINGS = 11

GREETINGS = (
    "Hello", "Hi", "Hey", "Hello there", "Good morning", "Good evening", "Good afternoon", "Hi there", "Greetings",
    "Hello, how are you", "How are you", "Hi, how are you", "Who are you", "What are you", "What can you do",
    "What do you know", "What do you do", "Help", "Can you help me", "Thanks", "Thank you", "Bye", "Goodbye", "Hey there",
    "What is your name", "What model are you", "Are you an AI", "Tell me about yourself", "Introduce yourself", "How do you work",
    "Test", "This is a test", "Say hello", "Are you there", "What should I ask you", "Hello, who are you", "Hi, what can you do",
)
# Requests that are not about the meaning of a word; {x} is any word.
OFF_TOPIC = (
    "Write a poem about {x}", "Write a story about {x}", "Write a haiku about {x}", "Tell me a joke", "Tell me a joke about {x}", "Tell me a story",
    "What is 2 + 2", "What is 17 times 3", "How much is 12 plus 5", "How do I cook {x}", "How many {x}s are there", "Where can I buy {x}", "Why is the sky blue",
    "What time is it", "What is the weather today", "Who is the president", "What is the capital of {x}", "Translate {x} into French", "Count to ten",
    "Write a program that prints {x}", "Write code", "Summarize this text", "Do you like {x}", "Can you write a song about {x}", "List three facts about {x}",
    "How old is the {x}", "When was the {x} invented", "Who invented the {x}", "What color is {a} {x}", "Give me a recipe with {x}",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful AI assistant.",
    "You are a friendly assistant.", "You are an assistant.", "You are a dictionary.", "Answer briefly.", "Be concise.", "Answer in one sentence.",
    "You are a helpful, respectful and honest assistant.", "You are a helpful assistant that answers in English.", "Answer the question of the user.",
)


def turn(role, text):
    return f"{TURN_START}{role}\n{text}{TURN_END}\n"


def prompt(messages):
    """Exactly what CHAT_TEMPLATE makes of the messages, ready for the answer."""
    return "".join(turn(role, text) for role, text in messages) + f"{TURN_START}assistant\n"


def with_article(word, wrong=False):
    right = article(word)
    return right if not wrong else ("a" if right == "an" else "an")


def phrase(pattern, word, wrong_article=False):
    return pattern.format(a=with_article(word, wrong_article), x=word)


def restyle(text, word, rng):
    """How people really type: lower case, a capital word, no punctuation, shouting."""
    roll = rng.random()
    if roll < 0.25:
        text = text.lower()
    elif roll < 0.33:
        text = text.replace(word, word.capitalize())
    elif roll < 0.37:
        text = text.upper()
    if rng.random() < 0.25:
        text = re.sub(r"[?.!]$", "", text)
    elif rng.random() < 0.04:
        text = text.replace(".", "!") if rng.random() < 0.5 else text.replace("?", " ?")
    return text


def question(word, rng):
    """One question about a word, in a random phrasing and style."""
    last = COMMON_PHRASINGS if rng.random() < 0.5 else len(PHRASINGS)
    pattern = PHRASINGS[int(rng.integers(last))]
    text = phrase(pattern, word, wrong_article=rng.random() < 0.08)
    if pattern.startswith("{x}") and rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return restyle(text, word, rng)


def remark(patterns, word, rng):
    """A greeting or an off-topic request, punctuated at random."""
    text = patterns[int(rng.integers(len(patterns)))]
    text = phrase(text, word) + ("", "?", ".", "!")[int(rng.integers(4))]
    return text.lower() if rng.random() < 0.3 else text


def polluted(word, rng):
    """A made-up word that looks like a real one: one to three letters differ."""
    letters = list(word)
    for _ in range(1 + int(rng.integers(3))):
        at = int(rng.integers(len(letters)))
        new = "etaoinshrdlucmfwypvbgkjqxz"[int(rng.integers(26))]
        kind = rng.random()
        if kind < 0.5:
            letters[at] = new
        elif kind < 0.75:
            letters.insert(at, new)
        elif len(letters) > 3:
            del letters[at]
    return "".join(letters)


def spliced(words, rng):
    """A made-up word from the halves of two real ones."""
    one, two = (words[int(rng.integers(len(words)))] for _ in range(2))
    return one[: max(2, len(one) // 2 + int(rng.integers(2)))] + two[len(two) // 2:]
