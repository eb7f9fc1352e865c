"""Add a trained recommender to a bundle; the catalogue is written too where the bundle has none.

python -m models export --run runs/beauty-morec-t --bundle bundles/beauty
"""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from models.bundle.backbone import require_exportable, require_same_data, write_backbone
from models.bundle.catalogue import read_catalogue, write_catalogue
from models.commands.train_table import percents
from models.contracts import BACKBONES, CATALOGUE, ENCODER
from models.contracts.one_writer import no_writer, one_writer
from models.data import registry
from models.data.dataset import Dataset
from models.evaluation import FULL, SAMPLED
from models.training.run import Origin, Run


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="a finished run")
    parser.add_argument("--bundle", type=Path, required=True, metavar="FOLDER", help="made if missing")
    parser.add_argument("--name", help="of the backbone; default: the model's name")


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The lines to print.
    """
    source = Run(args.run)
    lines = []
    with no_writer(args.run), one_writer(args.bundle), ExitStack() as undo:
        require_exportable(source, args.name)
        if not (args.bundle / CATALOGUE).exists():
            # The run knows where its data are; they may have changed since, so the fingerprint is checked.
            dataset = _dataset(source.origin())
            require_same_data(source, dataset, Path(source.origin().folder))
            undo.callback(shutil.rmtree, args.bundle / CATALOGUE, ignore_errors=True)
            catalogue = write_catalogue(dataset, args.bundle)
            lines.append(
                f"catalogue  {catalogue.dataset}: {catalogue.items:,} items, {catalogue.users:,} users"
            )
        lines.append(_add(source, args.bundle, args.name))
        undo.pop_all()  # a catalogue without the backbone that it was written for would bind the next export
    return "\n".join(lines)


def add_backbone(source: Run, bundle: Path, name: str | None) -> str:
    """Adds the backbone of a finished run to a bundle that has a catalogue.

    Args:
        source: the run.
        bundle: folder of the bundle.
        name: name of the backbone; None for that of the model.

    Returns:
        The lines to print.
    """
    with one_writer(bundle):
        return _add(source, bundle, name)


def _add(source: Run, bundle: Path, name: str | None) -> str:
    manifest = write_backbone(source, bundle, name)
    # Megabytes, 10^6 bytes.
    size = sum(f.stat().st_size for f in (bundle / BACKBONES / manifest.name).iterdir()) / 1e6
    checked = "; ONNX agrees with torch" if ENCODER in manifest.sha256 else ""
    test = manifest.metrics["test"]
    measured = percents(test, SAMPLED)
    if test["N@5"] is None:  # a catalogue too small for candidates
        measured = f"{percents(test['full'], FULL)}  over the whole catalogue"
    lines = [
        f"backbone   {manifest.name}, version {manifest.version}, {size:.1f} MB" + checked,
        f"test       {measured}",
        f"bundle     {bundle}",
    ]
    return "\n".join(lines)


def _dataset(origin: Origin) -> Dataset:
    folder = Path(origin.folder)
    if origin.kind == "bundle":
        return read_catalogue(folder)
    # How much may be left out was decided for the training; the fingerprint tells whether it is the same.
    photos = Path(origin.photos) if origin.photos else None
    return registry.read(folder, origin.dataset, photos, max_left_out=1.0)
