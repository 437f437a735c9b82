"""Writes a checkpoint as a GGUF file that llama.cpp and candle can load.

Matrices become Q8_0, norms stay F32. The file carries all that a loader needs:
shape, tokenizer with merges, special tokens, chat template, licence.
"""

import argparse
import json
import os
import pathlib
import pickle

import gguf
import numpy

import dialogue

LICENCE = "LicenseRef-WordNet-3.0"
# Loaders choose the pre-tokeniser by this name; it is the one of prepare.py.
PRE_TOKENISER = "gpt-2"


def add_shape(writer, shape):
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["heads"])
    writer.add_layer_norm_rms_eps(shape["norm_epsilon"])
    writer.add_rope_dimension_count(shape["width"] // shape["heads"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_vocab_size(shape["vocabulary"])


def add_tokenizer(writer, path):
    model = json.loads(path.read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    ids = model["vocab"]
    types = [gguf.TokenType.CONTROL if token in dialogue.CONTROL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENISER)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(ids[dialogue.END_OF_TEXT])
    writer.add_eos_token_id(ids[dialogue.TURN_END])
    writer.add_eot_token_id(ids[dialogue.TURN_END])
    writer.add_pad_token_id(ids[dialogue.END_OF_TEXT])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(dialogue.CHAT_TEMPLATE)


def for_llama_cpp(matrix, heads):
    """Rows of q and k from pairs (i, i + half), as trained, to pairs (2i, 2i + 1)."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def add_tensors(writer, p, shape):
    def matrix(name, values):
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(numpy.ascontiguousarray(values, numpy.float32), kind), raw_dtype=kind)

    norm = lambda name, values: writer.add_tensor(name, numpy.ascontiguousarray(values, numpy.float32))
    matrix("token_embd.weight", p["embedding"])
    matrix("output.weight", p["output"])
    norm("output_norm.weight", p["norm"])
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight", p["attention_norm"][layer])
        norm(f"{block}.ffn_norm.weight", p["mlp_norm"][layer])
        # Training multiplies `x @ w`; GGUF keeps one row per output.
        for ours, theirs in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output"),
                             ("gate", "ffn_gate"), ("up", "ffn_up"), ("down", "ffn_down")):
            rows = p[ours][layer].T
            matrix(f"{block}.{theirs}.weight", for_llama_cpp(rows, shape["heads"]) if ours in ("q", "k") else rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=pathlib.Path, required=True, help="folder that prepare.py filled")
    arguments.add_argument("--checkpoint", type=pathlib.Path, required=True)
    arguments.add_argument("--to", type=pathlib.Path, required=True, help="the GGUF file to write")
    options = arguments.parse_args()
    with open(options.checkpoint, "rb") as file:
        kept = pickle.load(file)
    shape = kept["shape"]

    beside = options.to.with_name(options.to.name + ".new")
    writer = gguf.GGUFWriter(beside, "llama")
    writer.add_name("Lethe demo: definitions of common nouns")
    writer.add_description("A small demonstration model that knows the definitions of about 3,000 common nouns.")
    writer.add_license(LICENCE)
    writer.add_license_name("WordNet 3.0 License")
    writer.add_languages(["en"])
    writer.add_size_label(f"{sum(a.size for a in kept['parameters'].values()) / 1e6:.1f}M")
    # A dictionary is not creative: without a wish of the user, the best token.
    writer.add_float32("general.sampling.temp", 0.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_shape(writer, shape)
    add_tokenizer(writer, options.data / "tokenizer.json")
    add_tensors(writer, kept["parameters"], shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(beside, options.to)
    print(f"{options.to}: step {kept['step']}, {options.to.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
