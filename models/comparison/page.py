"""Lays a comparison out as a page of Markdown that reads well in a terminal of 110 columns too."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.comparison.comparison import Measured
from models.comparison.contenders import FORMS
from models.comparison.inputs import differences
from models.comparison.statistics import Figure, agreement, hit_ratio, ndcg
from models.comparison.targets import AUTHORS, DRAWN_29, DRAWN_99, FULL, Targets
from models.contracts.paper import METRICS, accuracy_of, seconds_of
from models.evaluation import PADDING, candidates_in_words, hit_at, ndcg_at
from models.networks.base import GraphNetwork
from models.networks.config import LearningConfig
from models.networks.registry import FAMILIES
from models.printed_table import NO_VALUE, Table

WIDTH = 110
"""Columns of a terminal."""

OTHER_INPUT = "†"
"""Mark of a row whose input is not that of the paper's row."""

_SAMPLED: dict[str, Callable[[NDArray[np.int32]], Figure]] = {
    "H@1": lambda ranks: hit_ratio(ranks, 1),
    "H@5": lambda ranks: hit_ratio(ranks, 5),
    "N@5": lambda ranks: ndcg(ranks, 5),
}


@dataclass(frozen=True, slots=True)
class Users:
    """Users whom a table of figures is about.

    Attributes:
        title: words for them.
        task: task whose ranks the table is made of.
        chosen: whether the user of an example is one of them, bool [examples].
    """

    title: str
    task: str
    chosen: NDArray[np.bool_]


def page(dataset: str, lines: Sequence[Measured], targets: Targets) -> str:
    """Lays out all tables of a comparison.

    Args:
        dataset: name of the data set, under which the paper's rows are looked up.
        lines: rows in the order of the page.
        targets: test part that they were measured on.
    """
    there = [line for line in lines if line.ranks]
    parts = [
        _figures(dataset, lines if number == 0 else there, users)
        for number, users in enumerate(_users(targets))
    ]
    parts += [_remarks_of_authors(there, targets), _full(there), _agreements(there)]
    trained = [line for line in there if line.config is not None]
    if trained:
        parts += [_training(trained), _seconds(trained), _inputs(trained)]
    return "\n".join(part for part in [*parts, _remarks(lines)] if part)


def _users(targets: Targets) -> list[Users]:
    drawn = candidates_in_words(targets.candidates[DRAWN_29].protocol)
    everyone = np.ones(len(targets.examples), dtype=bool)
    users = [Users(f"{drawn}: all users", DRAWN_29, everyone)]
    if np.count_nonzero(targets.sample) < len(targets.examples):
        users.append(Users(f"{drawn}: a seeded choice of users", DRAWN_29, targets.sample))
    if targets.authors is not None:
        users.append(Users(f"{drawn}: the users of the paper's authors", DRAWN_29, targets.authors))
        if AUTHORS in targets.candidates:
            users.append(Users("Users and candidates of the paper's authors", AUTHORS, targets.authors))
    return users


def _figures(dataset: str, lines: Sequence[Measured], users: Users) -> str:
    """Tabulates H@1, H@5 and N@5 of some users beside the paper's row."""
    rows, counts = [], set()
    for line in lines:
        ranks = line.ranks[users.task][users.chosen] if line.ranks else np.empty(0, dtype=np.int32)
        ranks = ranks[ranks > 0]
        counts.add(len(ranks))
        figures = [_cell(figure(ranks)) if len(ranks) else NO_VALUE for figure in _SAMPLED.values()]
        rows.append((_label(line), line.contender.form, *figures, _paper(dataset, line)))
    table = Table(("row", "form", *_SAMPLED, "paper " + " ".join(METRICS)), tuple(rows), frozenset({0, 1}))
    return f"## {users.title} ({max(counts, default=0):,})\n\n{table.markdown()}"


def _remarks_of_authors(lines: Sequence[Measured], targets: Targets) -> str:
    """Says whom of the authors' users the tables lack, and what their unknown candidates can have changed."""
    out = f"Left out of the authors' users: {targets.left_out:,}, not here or with another last item."
    asked = targets.candidates.get(AUTHORS)
    if asked is None:
        return _wrapped(out) if targets.left_out else ""
    lacking = np.count_nonzero(asked.rows == PADDING, axis=1)
    text = (
        f"{np.count_nonzero(lacking):,} of {len(lacking):,} users of the paper's authors have fewer than "
        f"{asked.rows.shape[1]} candidates, since {lacking.sum():,} titles could not be traced to one item: "
        "their targets are ranked among the others."
    )
    for line in lines:
        if (line.contender.label, line.contender.form) == ("Pop", "paper") and lacking.any():
            ranks = line.ranks[AUTHORS][asked.at]
            best, worst = _in_short(ranks), _in_short(ranks + lacking)
            text += f" Pop in the paper's form has {best}; if all of them stood above their targets, {worst}."
    if targets.left_out:
        text += f" {out}"
    return _wrapped(text)


def _full(lines: Sequence[Measured]) -> str:
    """Tabulates full ranking, and N@5 among 99."""
    rows, users = [], 0
    for line in lines:
        ranks, among_99 = line.ranks[FULL], line.ranks[DRAWN_99][line.ranks[DRAWN_99] > 0]
        users = len(ranks)
        rows.append(
            (
                _label(line),
                line.contender.form,
                _cell(hit_ratio(ranks, 10)) if users else NO_VALUE,
                _cell(ndcg(ranks, 10)) if users else NO_VALUE,
                _cell(ndcg(among_99, 5)) if len(among_99) else NO_VALUE,
            )
        )
    if not rows:
        return ""
    table = Table(("row", "form", "HR@10", "N@10", "1 + 99: N@5"), tuple(rows), frozenset({0, 1}))
    return f"## The whole catalogue, without the history: all users ({users:,})\n\n{table.markdown()}"


def _agreements(lines: Sequence[Measured]) -> str:
    """Tabulates Kendall's tau between orders of the trained models: among 29, among 99, in the catalogue."""
    rows = []
    for form in FORMS:
        models = [line for line in lines if line.config is not None and line.contender.form == form]
        models = [line for line in models if not line.contender.refit]
        orders = [[ndcg_at(line.ranks[FULL], 10) for line in models]]
        for task in (DRAWN_29, DRAWN_99):
            ranks = [line.ranks[task][line.ranks[task] > 0] for line in models]
            orders.append([ndcg_at(each, 5) for each in ranks] if all(map(len, ranks)) else [])
        full, among_29, among_99 = orders
        pairs = ((among_29, among_99), (among_29, full), (among_99, full))
        taus = [agreement(*pair) if all(map(len, pair)) else None for pair in pairs]
        if len(models) > 1:
            cells = [NO_VALUE if tau is None else f"{tau:.2f}" for tau in taus]
            rows.append((form, str(len(models)), *cells))
    if not rows:
        return ""
    table = Table(("form", "models", "29 and 99", "29 and full", "99 and full"), tuple(rows))
    return "\n".join(
        (
            "## Kendall's tau between orders of the trained models\n",
            table.markdown(),
            _wrapped(
                "Orders by N@5 among 1 + 29 and 1 + 99 drawn candidates and by N@10 in full ranking, of all "
                "users."
            ),
        )
    )


def _training(lines: Sequence[Measured]) -> str:
    columns = ("row", "form", "epochs", "best", "validation", "ended by", "rises", "h left", "s per epoch")
    rows = []
    for line in lines:
        assert line.config is not None
        limits, result = line.config.training, line.result
        if not isinstance(limits, LearningConfig):
            rows.append((_label(line), line.contender.form, *[NO_VALUE] * (len(columns) - 2)))
            continue
        rows.append(
            (
                _label(line),
                line.contender.form,
                f"{result['epochs']} of {limits.epochs}",
                str(result["best_epoch"]),
                _validation(line),
                str(result.get("ended_by", NO_VALUE)),
                _yes_or_no(result.get("still_rising")),
                f"{result.get('hours_to_last_epoch', 0.0):.1f}",
                f"{result['seconds_per_epoch']:.1f}",
            )
        )
    devices = ", ".join(sorted({str(line.result["device"]) for line in lines}))
    note = (
        "Rises: whether validation was still getting better at the end. H left: to the configured epochs, at "
        f"the speed so far. Seconds per epoch without validation. Trained on {devices}."
    )
    return f"## Training\n\n{Table(columns, tuple(rows), frozenset({0, 1})).markdown()}\n{_wrapped(note)}"


def _seconds(lines: Sequence[Measured]) -> str:
    rows = []
    for line in lines:
        if line.epoch_time is not None:
            time = line.epoch_time
            theirs = _paper_seconds(line)
            steps = f"{time.steps} of {time.of:,}"
            rows.append((_label(line), line.contender.form, f"{time.seconds:.1f}", steps, theirs))
    if not rows:
        return ""
    table = Table(("row", "form", "s per epoch", "steps timed", "paper s"), tuple(rows), frozenset({0, 1}))
    devices = ", ".join(sorted({line.epoch_time.device for line in lines if line.epoch_time}))
    note = (
        "Scaled from the steps that were timed to an epoch. A batch is 64 sequences, or 64 interactions of a "
        f"graph model, whatever the configuration trains with. Ours on {devices}; paper: Table 2, Beauty, on "
        "hardware that it does not name."
    )
    return f"## Seconds per epoch at batch size 64\n\n{table.markdown()}\n{_wrapped(note)}"


def _inputs(lines: Sequence[Measured]) -> str:
    """Lists which encoders made what each row reads, and how that differs from the paper's row."""
    items = []
    for line in lines:
        assert line.config is not None
        encoders = line.config.features.described(line.config.modalities) or "ids alone"
        text = f"- {line.contender.label} ({line.contender.form}), {line.contender.name}: {encoders}"
        differ = _differences(line)
        items.append(_item(f"{text}; {OTHER_INPUT} {'; '.join(differ)}" if differ else text))
    return "## What each row reads of an item\n\n" + "\n".join(items) + "\n"


def _remarks(lines: Sequence[Measured]) -> str:
    remarks = [
        "95 % intervals in brackets: Wilson's for hit ratios, a bootstrap over users for NDCG. Ties count "
        "against the target, in Pop of the paper's form for it; that form counts training and validation. "
        "Percent throughout; the paper's row is over its own 400 users and candidates."
    ]
    if any(_differences(line) for line in lines):
        remarks.append(f"{OTHER_INPUT} not the same input as the paper's row: see what each row reads.")
    if any(_is_graph(line) for line in lines):
        remarks.append(
            "Graph rows (MMGCN, FREEDOM, BM3) know one interaction less of each user than sequence rows: the "
            "validation item is in the history that a sequence row reads at test time, and in no graph. A "
            "row with refit was trained anew on training and validation, for its best number of epochs."
        )
    if any(line.contender.method == "IISAN" for line in lines):
        remarks.append(
            "The paper's IISAN row is quoted, and is not comparable: its figures are no counts of 400 users, "
            "and it lies below Pop."
        )
    missing = [
        f"- {line.contender.label} ({line.contender.form}): {line.reason}" for line in lines if line.reason
    ]
    text = "\n".join(map(_wrapped, remarks))
    if not missing:
        return f"## Remarks\n\n{text}"
    return f"## Remarks\n\n{text}\n## Rows without figures\n\n" + "\n".join(map(_item, missing)) + "\n"


def _label(line: Measured) -> str:
    return f"{line.contender.label} {OTHER_INPUT}" if _differences(line) else line.contender.label


def _differences(line: Measured) -> list[str]:
    if line.config is None:
        return []
    return differences(line.config, line.contender.method, line.contender.strategy)


def _is_graph(line: Measured) -> bool:
    return line.config is not None and issubclass(FAMILIES[line.config.family], GraphNetwork)


def _cell(figure: Figure) -> str:
    return f"{100 * figure.value:.2f} [{100 * figure.low:.1f}–{100 * figure.high:.1f}]"


def _in_short(ranks: NDArray[np.int32]) -> str:
    return f"H@1 {100 * hit_at(ranks, 1):.2f} and H@5 {100 * hit_at(ranks, 5):.2f}"


def _paper(dataset: str, line: Measured) -> str:
    if line.contender.method is None:
        return NO_VALUE
    figures = accuracy_of(line.contender.method, line.contender.strategy).percents.get(dataset)
    return NO_VALUE if figures is None else " ".join(f"{figures[metric]:.2f}" for metric in METRICS)


def _paper_seconds(line: Measured) -> str:
    if line.contender.method is None:
        return NO_VALUE
    return f"{seconds_of(line.contender.method, line.contender.strategy).training:g}"


def _yes_or_no(value: object) -> str:
    if not isinstance(value, bool):
        return NO_VALUE
    return "yes" if value else "no"


def _validation(line: Measured) -> str:
    metric = str(line.result.get("selected_by") or "N@5")
    part = line.result["metrics"].get("validation")
    if part is None:  # a refit learns its items
        return NO_VALUE
    value = part["full"]["N@10"] if metric.endswith("N@10") else part[metric]
    return f"{metric} {100 * value:.2f}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def headed(title: str, command: str, facts: str, body: str) -> str:
    """Puts the command and what it ran on above a page."""
    return "\n".join((f"# {title}\n", f"```\n{command}\n```\n", facts, body))
