"""Writes metric families in Prometheus' text format.

``prometheus_client.generate_latest`` takes 76 ms for 300 histograms of 20 buckets, in which the event loop
runs only now and then; this takes a tenth of that for the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from service.exposition.families import Definition, Family


def write_text(families: Iterable[Family]) -> bytes:
    """Writes families as text (exposition format 1.0.0), labels in the order of their names."""
    lines: list[str] = []
    for family in families:
        definition = family.definition
        name = f"{definition.name}_total" if definition.kind == "counter" else definition.name
        documentation = definition.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {name} {documentation}\n# TYPE {name} {definition.kind}\n")
        lines.extend(_histogram(family) if definition.kind == "histogram" else _plain(name, family))
    return "".join(lines).encode("utf-8", "replace")  # a label may hold what UTF-8 cannot


def _plain(name: str, family: Family) -> Iterator[str]:
    for key, (value,) in family.series.items():
        pairs = ",".join(_pairs(family.definition, key))
        yield (f"{name}{{{pairs}}} {_number(value)}\n" if pairs else f"{name} {_number(value)}\n")


def _histogram(family: Family) -> Iterator[str]:
    definition = family.definition
    name = definition.name
    bounds = [f'le="{_number(bound)}"' for bound in (*definition.bounds, float("inf"))]
    # Where `le` comes among the labels.
    position = sum(label < "le" for label in definition.labels)
    for key, (*buckets, total) in family.series.items():
        pairs = _pairs(definition, key)
        start = f"{name}_bucket{{" + "".join(f"{pair}," for pair in pairs[:position])
        end = "".join(f",{pair}" for pair in pairs[position:]) + "} "
        counts = list(accumulate(buckets))
        for bound, count in zip(bounds, counts, strict=True):
            yield f"{start}{bound}{end}{_number(count)}\n"
        of = f"{{{','.join(pairs)}}}" if pairs else ""
        yield f"{name}_count{of} {_number(counts[-1])}\n{name}_sum{of} {_number(total)}\n"


def _pairs(definition: Definition, key: tuple[str, ...]) -> list[str]:
    """Returns the labels of one series as ``name="value"``, in the order of their names."""
    return [
        f'{label}="{_escaped(value)}"' for label, value in sorted(zip(definition.labels, key, strict=True))
    ]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    # Go writes most numbers as Python does; the library knows the others.
    return repr(value) if 0.0 <= value < 1e6 else str(floatToGoString(value))  # type: ignore[no-untyped-call]
