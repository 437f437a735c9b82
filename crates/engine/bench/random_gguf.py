"""Writes a llama GGUF file of a given size with random weights, to time engines with.

What it says is nonsense; how long it takes to say it is not.

    pip install gguf numpy
    python random_gguf.py 300M.gguf --width 1024 --layers 16 --kind Q8_0
"""

import argparse

import gguf
import numpy

# What numpy's quantisers of the gguf package can write.
KINDS = {"Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_0": gguf.GGMLQuantizationType.Q4_0,
         "Q5_0": gguf.GGMLQuantizationType.Q5_0, "F16": gguf.GGMLQuantizationType.F16}
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "<|im_start|>assistant\n")


def byte_letters():
    """The letters that byte-level BPE writes for the 256 bytes."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--key-value-heads", type=int, default=8)
    parser.add_argument("--feed-width", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--kind", choices=KINDS, default="Q8_0")
    options = parser.parse_args()

    random = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(options.path, "llama")
    writer.add_name(f"random {options.kind}")
    writer.add_context_length(4096)
    writer.add_embedding_length(options.width)
    writer.add_block_count(options.layers)
    writer.add_feed_forward_length(options.feed_width)
    writer.add_head_count(options.heads)
    writer.add_head_count_kv(options.key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(options.width // options.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(options.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # One merge: llama.cpp takes no file without any.
    letters = [*CONTROLS, *byte_letters(), "th"]
    tokens = letters + [f"filler{at}" for at in range(options.vocabulary - len(letters))]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in CONTROLS else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def matrix(name, rows, width):
        values = random.standard_normal((rows, width), numpy.float32) / width ** 0.5
        kind = KINDS[options.kind]
        writer.add_tensor(name + ".weight", gguf.quants.quantize(values, kind), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", numpy.ones(options.width, numpy.float32))

    head = options.width // options.heads
    matrix("token_embd", options.vocabulary, options.width)
    matrix("output", options.vocabulary, options.width)
    norm("output_norm")
    for layer in range(options.layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        norm(block + "ffn_norm")
        matrix(block + "attn_q", options.width, options.width)
        matrix(block + "attn_k", options.key_value_heads * head, options.width)
        matrix(block + "attn_v", options.key_value_heads * head, options.width)
        matrix(block + "attn_output", options.width, options.width)
        matrix(block + "ffn_gate", options.feed_width, options.width)
        matrix(block + "ffn_up", options.feed_width, options.width)
        matrix(block + "ffn_down", options.width, options.feed_width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
