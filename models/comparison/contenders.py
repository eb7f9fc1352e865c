"""Says which configurations of ours stand for which row of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from models.data.dataset import Dataset
from models.training.config import ConfigError, configs

Form = Literal["paper", "ours"]
"""The paper's form, configuration ``<name>-paper``, or ours at the same serving cost, ``<name>``."""

FORMS: tuple[Form, ...] = ("paper", "ours")

UNTRAINED = {"random": "Random", "pop": "Pop"}
"""Rows without a configuration: names of ``--models`` and of the paper."""

TRAINED = {
    "sasrec": "SASRec",
    "mmgcn": "MMGCN",
    "freedom": "FREEDOM",
    "bm3": "BM3",
    "iisan": "IISAN",
    "morec-t": "MoRec (T)",
    "morec-i": "MoRec (I)",
    "morec-ti": "MoRec (T+I)",
}
"""Rows of a configuration per form: names of ``--models``, to which ``-paper`` is added, and of the paper."""

S2 = "s2"
"""Name of the rows of S2, one per LVLM that wrote captions."""

CAPTIONERS = {"gpt4v": "GPT-4V", "gpt4o": "GPT-4o", "claude3": "Claude 3-Opus"}
"""LVLMs of Table 1 by their names in the captions of Amazon Review Plus."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of ours.

    Attributes:
        label: first cell of its lines.
        form: the paper's or ours.
        method: method of its row in the paper's tables; None without one.
        strategy: strategy of that row; None for recommenders alone.
        configuration: name of a file of ``models/configs``; None for Random and Pop.
        settings: changes of that configuration, as ``--set`` takes them.
        suffix: end of the name of its run, after data set and configuration.
        refit: whether it was trained on training and validation, for the best number of epochs of its row.
        absent: reason why it cannot be trained, known before anything is tried; empty for the others.
    """

    label: str
    form: Form
    method: str | None
    strategy: str | None = None
    configuration: str | None = None
    settings: tuple[str, ...] = ()
    suffix: str = ""
    refit: bool = False
    absent: str = ""

    @property
    def name(self) -> str:
        """Name in messages: what is trained, or the row."""
        return f"{self.configuration}{self.suffix}" if self.configuration else self.label


def contenders(dataset: Dataset, forms: Sequence[Form], names: Sequence[str] = ()) -> list[Contender]:
    """Lists the rows of a table, in the order of the paper's.

    Args:
        dataset: data set, whose captioners S2 has rows for.
        forms: forms to compare.
        names: names of ``known_names`` that the table is limited to; all rows of the paper without one.

    Raises:
        ConfigError: a name is not known.
    """
    known = [*UNTRAINED, *TRAINED, S2]
    extra = [name for name in names if name in configs() and name not in known]
    for name in names:
        if name not in known and name not in extra:
            raise ConfigError(f"--models {name}: known are {', '.join(known_names())}")
    rows: list[Contender] = []
    for name in known:
        if not names or name in names:
            rows += _rows(name, dataset, forms)
    there = {row.configuration for row in rows}
    return rows + [Contender(name, _form_of(name), None, None, name) for name in extra if name not in there]


def known_names() -> list[str]:
    """Lists what ``--models`` may name: rows of the paper, and any other configuration."""
    rows = [*UNTRAINED, *TRAINED, S2]
    return rows + [name for name in configs() if name not in rows]


def _form_of(configuration: str) -> Form:
    return "paper" if "-paper" in configuration else "ours"


def _rows(name: str, dataset: Dataset, forms: Iterable[Form]) -> Iterator[Contender]:
    for form in forms:
        if name in UNTRAINED:
            yield Contender(UNTRAINED[name], form, UNTRAINED[name])
        elif name in TRAINED:
            configuration = name if form == "ours" else f"{name}-paper"
            yield _if_there(Contender(TRAINED[name], form, TRAINED[name], None, configuration))
    if name == S2:
        for captioner in (*CAPTIONERS, *sorted(dataset.captions.keys() - CAPTIONERS.keys())):
            for form in forms:
                yield _with_captions(captioner, form, dataset)


def _with_captions(captioner: str, form: Form, dataset: Dataset) -> Contender:
    """Makes a row of S2: MoRec (T) on titles and captions."""
    method = CAPTIONERS.get(captioner)
    configuration = "s2-paper" if form == "paper" else "morec-t"
    return _if_there(
        Contender(
            f"S2 {method or captioner}",
            form,
            method,
            "S2",
            configuration,
            ('features.text_view="enhanced"', f"features.captioner={captioner}"),
            f"-{captioner}",
            absent="" if captioner in dataset.captions else f"the data have no captions of {captioner}",
        )
    )


def _if_there(row: Contender) -> Contender:
    if row.absent or row.configuration in configs():
        return row
    return Contender(row.label, row.form, row.method, row.strategy, absent=f"no {row.configuration}.toml")
