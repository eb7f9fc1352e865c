"""Add a trained recommender to a bundle; the catalogue is written too where the bundle has none.

python -m models export --run runs/beauty-morec-t --bundle bundles/beauty
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from models.bundle.backbone import require_same_data, write_backbone
from models.bundle.catalogue import read_catalogue, write_catalogue
from models.commands.train_table import percents
from models.contracts import BACKBONES, CATALOGUE, ENCODER
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
    if not (args.bundle / CATALOGUE).exists():
        # The run knows where its data are; they may have changed since, so the fingerprint is checked first.
        dataset = _dataset(source.origin())
        require_same_data(source, dataset, Path(source.origin().folder))
        catalogue = write_catalogue(dataset, args.bundle)
        lines.append(f"catalogue  {catalogue.dataset}: {catalogue.items:,} items, {catalogue.users:,} users")
    lines.append(add_backbone(source, args.bundle, args.name))
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
    return registry.read(folder, origin.dataset, Path(origin.photos) if origin.photos else None)
