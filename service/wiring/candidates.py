"""Opens a generation: the bundle, a candidate model for each of its backbones, and the search."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.contracts import BackboneManifest, TextView
from service.candidates.base import CandidateModel
from service.candidates.registry import open_backbone, open_counting
from service.catalogue.bundle import Bundle, open_bundle
from service.catalogue.file_copies import FileCopies
from service.catalogue.item_search import ItemSearch
from service.data_folder import make_data_folder
from service.errors import ConfigurationError
from service.generation import Generation
from service.settings import Settings

log = logging.getLogger(__name__)


def open_generation(settings: Settings, copies: FileCopies | None = None) -> Generation:
    """Opens and checks the bundle that the settings name, with its models, and builds its search index.

    Blocks for seconds with a large catalogue: while another generation serves, call it in a thread.

    Args:
        settings: settings of the deployment.
        copies: makes the copies of the bundle's large files; None for copies of this process alone.

    Raises:
        BundleError: the bundle does not open.
        ConfigurationError: the default backbone or the captioner is not in it.
    """
    folder = settings.bundle
    # A link may be switched to the next version: this one goes on reading images where it began.
    bundle = open_bundle(folder.resolve() if folder.is_symlink() else folder, copies)
    backbone = default_backbone(bundle, settings.backbone)
    check_captioner(bundle, settings.captioner)
    return Generation(
        bundle,
        open_models(bundle, settings),
        backbone,
        default_enhanced(bundle, settings.backbone),
        ItemSearch(bundle.catalogue, _search_folder(settings.data)),
    )


def _search_folder(data: Path) -> Path | None:
    """Returns the folder of the search index; None, with a line in the log, if it cannot be made."""
    try:
        return make_data_folder(data, "search")
    except ConfigurationError as error:
        log.warning("the search index is built in memory: %s", error)
        return None


def backbones_of(generation: Generation) -> list[tuple[str, str, str]]:
    """Returns name, version and family of every backbone of the bundle, for the metrics."""
    backbones = generation.bundle.backbones.items()
    return [(name, each.manifest.version, each.manifest.family) for name, each in backbones]


def open_models(bundle: Bundle, settings: Settings) -> dict[str, CandidateModel]:
    """Opens a candidate model for every backbone, and for the families that need no training.

    Raises:
        BundleError: an encoder cannot be used.
    """
    models = {
        name: open_backbone(backbone, settings.onnx_threads) for name, backbone in bundle.backbones.items()
    }
    for name, model in open_counting(bundle.catalogue).items():
        models.setdefault(name, model)  # a bundle's own backbone of that name wins
    return models


def default_backbone(bundle: Bundle, wanted: str) -> str:
    """Returns the name of the backbone that answers unless a request names one.

    Args:
        bundle: bundle with the backbones to choose from.
        wanted: name of one of them; empty for the best of the raw ones.

    Raises:
        ConfigurationError: the bundle has no backbone of that name, or only enhanced ones.
    """
    if wanted:
        if wanted not in bundle.backbones:
            raise ConfigurationError(
                f"MSR_BACKBONE is {wanted!r}; this bundle has {', '.join(bundle.backbones)}"
            )
        return wanted
    best = _best(bundle, "raw")
    if best is None:
        raise ConfigurationError(
            "the bundle has only enhanced backbones: export a raw one or set MSR_BACKBONE"
        )
    return best


def default_enhanced(bundle: Bundle, wanted: str) -> str | None:
    """Returns the name of the enhanced backbone that answers unless a request names one.

    Args:
        bundle: bundle with the backbones to choose from.
        wanted: name of the default backbone, which is taken if it is enhanced; any other for the best of the
            enhanced ones.

    Returns:
        The name; None if the bundle has no enhanced backbone.
    """
    chosen = bundle.backbones.get(wanted)
    return wanted if chosen and chosen.manifest.text_view == "enhanced" else _best(bundle, "enhanced")


def check_captioner(bundle: Bundle, wanted: str) -> None:
    """Checks that the bundle has captions of the captioner that the settings name, if they name one.

    Raises:
        ConfigurationError: it has none of it.
    """
    captioners = bundle.catalogue.captions
    if wanted and wanted not in captioners:
        raise ConfigurationError(
            f"MSR_CAPTIONER is {wanted!r}; this bundle has captions of "
            f"{', '.join(captioners) or 'no captioner'}"
        )


def _best(bundle: Bundle, view: TextView) -> str | None:
    """Returns the name of the best backbone with this view of texts; None if there is none.

    It is the one with the best validation NDCG@5 over candidates or, where a catalogue is too small for
    candidates, NDCG@10 over the whole of it. One that has an encoder goes first: new events do not change
    what the vectors of a graph family recommend.
    """
    named = {name: each for name, each in bundle.backbones.items() if each.manifest.text_view == view}
    reacting = [name for name, backbone in named.items() if backbone.encoder is not None]
    return max(reacting or named, key=lambda name: _validation(named[name].manifest), default=None)


def _validation(manifest: BackboneManifest) -> tuple[float, float]:
    """Returns NDCG@5 over candidates and NDCG@10 over all items, on the validation items; 0 if not there.

    The first decides; the second where the first is equal, or is not there for any backbone.
    """
    # The manifest of a bundle that was made by hand may hold any JSON here.
    validation = _object(manifest.metrics.get("validation"))
    return _share(validation.get("N@5")), _share(_object(validation.get("full")).get("N@10"))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
