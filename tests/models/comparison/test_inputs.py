from __future__ import annotations

from models.comparison.inputs import differences
from models.training.config import load, path_of


def test_the_papers_own_configurations_have_the_inputs_of_its_rows() -> None:
    assert differences(load(path_of("morec-t-paper")), "MoRec (T)", None) == []
    assert differences(load(path_of("morec-ti-paper")), "MoRec (T+I)", None) == []
    assert differences(load(path_of("sasrec")), "SASRec", None) == []
    assert differences(load(path_of("s2-paper")), "GPT-4o", "S2") == []


def test_a_stand_in_or_a_missing_modality_is_not_the_same_input() -> None:
    stand_in = load(path_of("morec-t-paper"), ["features.text_encoder=minilm"])
    assert differences(stand_in, "MoRec (T)", None) == ["text by minilm in place of bert-base-uncased"]
    text_alone = load(path_of("freedom-paper"), ['network.modalities=["text"]'])
    assert differences(text_alone, "FREEDOM", None) == ["no pictures"]
    ours = load(path_of("morec-t"))
    assert "categories beside the title" in differences(ours, "MoRec (T)", None)
    assert differences(ours, None, None) == []
