# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the lab's model: a DeepSeek-V3 architecture with one MTP layer, tiny, with random weights and its own tokenizer.

    python3 mkmodel.py FOLDER

26 MB in two shards, laid out like the repository of a W8A8 checkpoint. Every byte follows from the constants below, on any machine
and with any Python, so that a checksum taken today holds tomorrow. Standard library only: safetensors and tokenizer.json are simple formats.

The answers are word salad, as random weights give: it is the way to them that is real.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from math import prod
from pathlib import Path

_SEED = 20240126

# The names and the relations are DeepSeek-R1's own, the sizes are not. kv_lora_rank and the three head sizes are the real ones:
# attention kernels are written for those.
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "torch_dtype": "bfloat16",
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "q_lora_rank": 128,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "moe_layer_freq": 1,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GENERATION_CONFIG = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "do_sample": False}
SPECIAL_TOKENS = ["<s>", "</s>", "<pad>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# A tokenizer needs words. These make the salad readable; the order makes the vocabulary.
WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were her all she there
would their we him been has when who will more no if out so said what up its about into than them can only other new some could time these two may
then do first any my now such like our over man me even most made after also did many before must through back years where much your way well down
should because each just those people how too little state good very make world still own see men work long get here between both life being under
never day same another know while last might us great old year off come since against go came right used take three future open answer question
number place small large house again point room water light night morning river mountain garden window letter paper machine engine wheel bridge
harbour island forest meadow winter summer spring autumn silver copper iron stone glass music story history science reason nature
""".split()


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        sys.stderr.write(f"usage: mkmodel.py FOLDER\n{__doc__}")
        return 2
    write_model(Path(argv[0]))
    return 0


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = build_vocabulary()
    shapes = tensor_shapes()
    files = write_shards(folder, shapes, reachable=word_tokens(vocabulary))
    total = sum(2 * prod(shape) for shape in shapes.values())
    jsons = {
        "config.json": CONFIG,
        "generation_config.json": GENERATION_CONFIG,
        "configuration.json": {"framework": "pytorch", "task": "text-generation"},
        "model.safetensors.index.json": {"metadata": {"total_size": total}, "weight_map": files},
        # A W8A8 repository says here how each tensor was quantized. These were not, and say so.
        "quant_model_description.json": {"model_quant_type": "FLOAT", **{name: "FLOAT" for name in shapes}},
        "tokenizer.json": tokenizer(vocabulary, merges),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "add_bos_token": False,
            "model_max_length": CONFIG["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, blob in jsons.items():
        (folder / name).write_text(json.dumps(blob, indent=2) + "\n")
    (folder / "README.md").write_text("A random-weight model for tests, in the layout of a quantized DeepSeek-R1. It knows nothing.\n")


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in the order in which they are written."""
    hidden, vocabulary = CONFIG["hidden_size"], CONFIG["vocab_size"]
    last = CONFIG["num_hidden_layers"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(last + CONFIG["num_nextn_predict_layers"]):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in _layer_shapes(layer).items()})
    shapes.update({"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)})
    # The MTP layer: a whole decoder layer that also joins the last hidden state with the embedding of the next token.
    mtp = f"model.layers.{last}."
    shapes.update(
        {
            f"{mtp}embed_tokens.weight": (vocabulary, hidden),
            f"{mtp}enorm.weight": (hidden,),
            f"{mtp}hnorm.weight": (hidden,),
            f"{mtp}eh_proj.weight": (hidden, 2 * hidden),
            f"{mtp}shared_head.norm.weight": (hidden,),
            f"{mtp}shared_head.head.weight": (vocabulary, hidden),
        }
    )
    return shapes


def _layer_shapes(layer: int) -> dict[str, tuple[int, ...]]:
    """One decoder layer: multi-head latent attention, then a dense or a mixture-of-experts feed-forward part."""
    hidden, heads = CONFIG["hidden_size"], CONFIG["num_attention_heads"]
    q_rank, kv_rank = CONFIG["q_lora_rank"], CONFIG["kv_lora_rank"]
    nope, rope, value = CONFIG["qk_nope_head_dim"], CONFIG["qk_rope_head_dim"], CONFIG["v_head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_a_proj.weight": (q_rank, hidden),
        "self_attn.q_a_layernorm.weight": (q_rank,),
        "self_attn.q_b_proj.weight": (heads * (nope + rope), q_rank),
        "self_attn.kv_a_proj_with_mqa.weight": (kv_rank + rope, hidden),
        "self_attn.kv_a_layernorm.weight": (kv_rank,),
        "self_attn.kv_b_proj.weight": (heads * (nope + value), kv_rank),
        "self_attn.o_proj.weight": (hidden, heads * value),
        "post_attention_layernorm.weight": (hidden,),
    }
    if layer < CONFIG["first_k_dense_replace"]:
        return {**shapes, **_feed_forward("mlp", CONFIG["intermediate_size"])}
    experts, width = CONFIG["n_routed_experts"], CONFIG["moe_intermediate_size"]
    shapes.update({"mlp.gate.weight": (experts, hidden), "mlp.gate.e_score_correction_bias": (experts,)})
    shapes.update(_feed_forward("mlp.shared_experts", width * CONFIG["n_shared_experts"]))
    for expert in range(experts):
        shapes.update(_feed_forward(f"mlp.experts.{expert}", width))
    return shapes


def _feed_forward(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    hidden = CONFIG["hidden_size"]
    return {
        f"{prefix}.gate_proj.weight": (width, hidden),
        f"{prefix}.up_proj.weight": (width, hidden),
        f"{prefix}.down_proj.weight": (hidden, width),
    }


def tensor_bytes(name: str, shape: tuple[int, ...], reachable: set[int]) -> bytes:
    """A tensor's values as little-endian bfloat16.

    Norms are ones and the router's bias zeros, as in an untrained model. All others have random bits below a fixed upper exponent:
    magnitudes from 1/128 to 1/32, either sign, a root mean square of 0.02. A seed of its own for every tensor keeps a value where it is
    when another tensor comes or goes.
    """
    count = prod(shape)
    if name.endswith("norm.weight"):
        return struct.pack("<H", 0x3F80) * count
    if name.endswith("e_score_correction_bias"):
        return bytes(2 * count)
    # The MTP layer shares embedding and head with the model, as trained ones do.
    source = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}
    shared = next((original for suffix, original in source.items() if name.endswith(suffix)), name)
    generator = random.Random(f"{_SEED} {shared}")
    values = bytearray(generator.randbytes(2 * count))
    # The upper byte of a bfloat16 holds the sign and seven bits of the exponent: 0x3C or 0xBC.
    values[1::2] = values[1::2].translate(bytes(0x3C | (byte & 0x80) for byte in range(256)))
    if shared == "lm_head.weight":
        # Only whole words are ever the likeliest token: an answer is readable, and as long as it was asked for.
        row = 2 * shape[1]
        for token in set(range(shape[0])) - reachable:
            values[token * row : (token + 1) * row] = bytes(row)
    return bytes(values)


def write_shards(folder: Path, shapes: dict[str, tuple[int, ...]], reachable: set[int]) -> dict[str, str]:
    """Writes the tensors into two files of about one size; returns which tensor is in which file."""
    total = sum(prod(shape) for shape in shapes.values())
    shards: list[dict[str, tuple[int, ...]]] = [{}, {}]
    seen = 0
    for name, shape in shapes.items():
        shards[0 if seen < total / 2 else 1][name] = shape
        seen += prod(shape)
    where = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, reachable)
        where.update(dict.fromkeys(shard, file))
    return where


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], reachable: set[int]) -> None:
    """The safetensors format: the header's length (8 bytes, little-endian), a JSON header padded to 8 bytes, then the values."""
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            out.write(tensor_bytes(name, shape, reachable))


def byte_alphabet() -> list[str]:
    """The 256 printable characters that a byte-level BPE writes for the 256 bytes (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (chr(256 + number) for number in range(256))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


def build_vocabulary() -> tuple[dict[str, int], list[list[str]]]:
    """Tokens and merges: specials, bytes, then for every word (with its leading blank) each of its beginnings.

    Any text can be written with it, since every byte is a token; the rest is filled with names that no text contains.
    """
    alphabet = byte_alphabet()
    tokens = [*SPECIAL_TOKENS, *alphabet]
    known = set(tokens)
    merges = []
    for word in WORDS:
        letters = [alphabet[byte] for byte in b" " + word.encode()]
        for length in range(2, len(letters) + 1):
            token = "".join(letters[:length])
            if token in known:
                continue
            if len(tokens) == CONFIG["vocab_size"]:
                return _numbered(tokens), merges
            merges.append([token[:-1], token[-1]])
            tokens.append(token)
            known.add(token)
    return _numbered([*tokens, *(f"<unused{number}>" for number in range(CONFIG["vocab_size"] - len(tokens)))]), merges


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def word_tokens(vocabulary: dict[str, int]) -> set[int]:
    """The ids of the tokens that are whole words."""
    blank = byte_alphabet()[ord(" ")]
    return {vocabulary[blank + word] for word in WORDS if blank + word in vocabulary}


def tokenizer(vocabulary: dict[str, int], merges: list[list[str]]) -> dict:
    """tokenizer.json: a byte-level BPE, as DeepSeek's own tokenizer is."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **special} for token in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
