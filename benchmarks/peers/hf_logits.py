"""transformers' side of parity.py: its logits of a folder, and the tokens that it writes greedily.

    python hf_logits.py FOLDER OUT.npz --make gpt2            a model with random weights, saved into FOLDER first
    python hf_logits.py FOLDER OUT.npz --like FIRST.npz       the same inputs as another time

OUT.npz holds inputs, outputs and, of a language model, the tokens after the first row's first 16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers

SHAPES = {
    "gpt2": ("GPT2LMHeadModel", {}),
    "llama": (
        "LlamaForCausalLM",
        {"vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8,
         "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 1024},
    ),
    "qwen2": (
        "Qwen2ForCausalLM",
        {"vocab_size": 32_000, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 6,
         "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 1024,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen3": (
        "Qwen3ForCausalLM",
        {"vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 6, "head_dim": 128,
         "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 1024,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "nanochat": (
        "NanoChatForCausalLM",
        {"vocab_size": 32_000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 6,
         "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 1024},
    ),
    "bert": ("BertForMaskedLM", {}),
    "vit": ("ViTForImageClassification", {"num_labels": 1000}),
}  # fmt: skip
"""Class and what its configuration says beyond its defaults, which are GPT-2 small's, BERT base's and ViT-B/16's."""
PROMPT, NEW = 16, 64


def make(kind: str, folder: Path) -> None:
    """Random weights as its class starts them, biases and norms shaken too, for zeros and ones hide mistakes."""
    name, settings = SHAPES[kind]
    model = getattr(transformers, name)
    torch.manual_seed(0)
    model = model(model.config_class(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)


def inputs_of(config: transformers.PretrainedConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if config.model_type == "vit":
        return torch.randn(2, config.num_channels, config.image_size, config.image_size, generator=generator)
    return torch.randint(5, config.vocab_size, (2, 96), generator=generator)


@torch.inference_mode()
def main() -> None:
    """One model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--make", choices=SHAPES)
    parser.add_argument("--like", type=Path)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if args.make:
        make(args.make, args.folder)
    config = transformers.AutoConfig.from_pretrained(args.folder)
    kind = getattr(transformers, config.architectures[0])
    model, told = kind.from_pretrained(args.folder, output_loading_info=True)
    model = model.eval().float()
    inputs = torch.from_numpy(np.load(args.like)["inputs"]) if args.like else inputs_of(config)
    found = model(inputs)
    outputs = found.logits if hasattr(found, "logits") else found.last_hidden_state
    written: list[int] = []
    if hasattr(model, "generate") and config.model_type not in ("bert", "vit"):
        model.generation_config.eos_token_id = None
        tokens = model.generate(
            inputs[:1, :PROMPT], attention_mask=torch.ones(1, PROMPT, dtype=torch.int64),
            max_new_tokens=NEW, do_sample=False, pad_token_id=0,
        )  # fmt: skip
        written = tokens[0, PROMPT:].tolist()
    np.savez(args.out, inputs=inputs.numpy(), outputs=outputs.numpy(), written=np.array(written, np.int64))
    print(json.dumps({
        "class": type(model).__name__, "parameters": model.num_parameters(), "type": config.model_type,
        "missing": sorted(told["missing_keys"]), "unexpected": sorted(told["unexpected_keys"]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
