"""Makes encoders with random weights, small enough for tests, in folders that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "mug", "lamp")
"""Vocabulary of the text model."""

WIDTH = 16


def _sizes(layers: int) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }


def text_model(folder: Path, seed: int = 0, layers: int = 1) -> Path:
    """A BERT of eight words and at most 512 tokens."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(vocab_size=len(WORDS), **_sizes(layers))
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def clip(folder: Path, layers: int = 1) -> Path:
    """The vision tower of a CLIP, with its projection to 12 numbers, for pictures of 32 × 32."""
    import torch
    import transformers

    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=12, **_sizes(layers))
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder)
    size = {"shortest_edge": 32}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def whole_clip(folder: Path, layers: int = 4) -> Path:
    """Both towers of a CLIP, as published ones are saved; the vision tower has ``layers``."""
    import torch
    import transformers

    torch.manual_seed(0)
    text = {**_sizes(1), "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"image_size": 32, "patch_size": 8, **_sizes(layers)}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(folder)
    size = {"shortest_edge": 32}
    transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def vit(folder: Path, layers: int = 4) -> Path:
    """A ViT for pictures of 224 × 224 with mean and deviation 0.5, saved as published ones: a classifier."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=224, patch_size=56, **_sizes(layers))
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    processor = transformers.ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(folder)
    return folder
