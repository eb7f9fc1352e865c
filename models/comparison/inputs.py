"""Says what a row reads of an item, and where that is not what the paper's row read."""

from __future__ import annotations

from models.networks.config import Config

_BERT, _CLIP, _VIT = "bert-base-uncased", "clip-vit-base-patch32", "vit-base-patch16-224"

_PAPER = {
    "MMGCN": {"text": _BERT, "image": _CLIP},
    "FREEDOM": {"text": _BERT, "image": _CLIP},
    "BM3": {"text": _BERT, "image": _CLIP},
    "IISAN": {"text": _BERT, "image": _VIT},
    "MoRec (T)": {"text": _BERT},
    "MoRec (I)": {"image": _CLIP},
    "MoRec (T+I)": {"text": _BERT, "image": _CLIP},
}
"""Encoders of the paper's rows; for the graph models, where it names none, those that it names for MoRec."""


def _read_by(config: Config) -> dict[str, str]:
    """Names the encoder of each modality that a configuration reads."""
    encoders = {"text": config.features.text_encoder, "image": config.features.image_encoder}
    return {name: encoders[name] for name in encoders if name in config.modalities}


def differences(config: Config, method: str | None, strategy: str | None) -> list[str]:
    """Says in words how the inputs of a row differ from those of the paper's row; empty where they do not."""
    wanted = {"text": _BERT} if strategy else _PAPER.get(method or "", {})
    ours = _read_by(config)
    words = {"text": "text", "image": "pictures"}
    found = []
    for modality, encoder in wanted.items():
        if modality not in ours:
            found.append(f"no {words[modality]}")
        elif encoder not in ours[modality]:
            found.append(f"{words[modality]} by {ours[modality]} in place of {encoder}")
    if config.features.categories and "text" in ours and wanted:
        found.append("categories beside the title")
    return found
