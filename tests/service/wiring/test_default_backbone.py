from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.wiring.candidates import default_backbone, default_enhanced


def bundle_of(*, graph: str = "", enhanced: str = "", **metrics: Any) -> Any:
    """Makes a bundle of backbones, each with these metrics in its manifest.

    All but those whose names are letters of ``graph`` have an encoder; those of ``enhanced`` are enhanced.
    """
    backbones = {
        name: SimpleNamespace(
            manifest=SimpleNamespace(text_view="enhanced" if name in enhanced else "raw", metrics=each),
            encoder=None if name in graph else "file",
        )
        for name, each in metrics.items()
    }
    return SimpleNamespace(backbones=backbones)


def chosen(*, graph: str = "", **metrics: Any) -> str:
    """Returns which of some raw backbones answers by default."""
    return default_backbone(bundle_of(graph=graph, **metrics), "")


def validation(sampled: Any, full: Any) -> dict[str, Any]:
    return {"validation": {"N@5": sampled, "full": {"N@10": full}}}


def test_the_backbone_that_is_best_on_validation_candidates_answers_by_default() -> None:
    assert chosen(a=validation(0.2, 0.9), b=validation(0.3, 0.1)) == "b"


def test_where_a_catalogue_is_too_small_for_candidates_the_ranks_over_all_of_it_decide() -> None:
    assert chosen(a=validation(None, 0.2), b=validation(None, 0.3)) == "b"


def test_a_graph_backbone_answers_by_default_only_where_there_is_no_other() -> None:
    better, worse = validation(0.9, 0.9), validation(0.1, 0.1)
    assert chosen(graph="a", a=better, b=worse) == "b"
    assert chosen(graph="ab", a=better, b=worse) == "a"


@pytest.mark.parametrize(
    "odd", [{}, {"validation": None}, validation("good", "bad"), {"validation": {"full": 1}}]
)
def test_a_manifest_without_usable_figures_comes_last(odd: dict[str, Any]) -> None:
    assert chosen(a=odd, b=validation(0.1, 0.1)) == "b"


def test_s2_answers_from_the_best_enhanced_backbone_or_from_the_one_that_is_the_default_of_all() -> None:
    worst, good, best = validation(0.1, 0.1), validation(0.3, 0.1), validation(0.9, 0.9)
    bundle = bundle_of(enhanced="ab", a=worst, b=good, c=best)
    assert default_backbone(bundle, "") == "c"
    assert default_enhanced(bundle, "") == default_enhanced(bundle, "c") == "b"
    assert default_enhanced(bundle, "a") == "a"
    assert default_enhanced(bundle_of(a=worst, b=good), "") is None


def test_a_default_that_cannot_be_is_refused_with_the_names_that_there_are() -> None:
    bundle = bundle_of(enhanced="ab", a={}, b={})
    with pytest.raises(ConfigurationError, match="this bundle has a, b"):
        default_backbone(bundle, "pop")
    with pytest.raises(ConfigurationError, match="only enhanced backbones: export a raw one or set"):
        default_backbone(bundle, "")
