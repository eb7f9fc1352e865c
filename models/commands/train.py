"""Train a sequential recommender and measure it on validation and test.

The run goes to RUNS/<data set>-<model>. Called again, an interrupted run goes on after its last epoch, and a
finished one prints its table, or goes on if training.epochs, training.patience or --minutes are larger now.
RUNS/test-evaluations.jsonl has a line for every evaluation of a test part.

  python -m models train --data beauty --model morec-t
  python -m models train --bundle bundle --model morec-t --text-view enhanced --captioner simulator
  python -m models train --bundle bundles/shop --model morec-ti --export
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from models.bundle.backbone import check_name
from models.bundle.catalogue import read_catalogue
from models.commands.cohort_options import add_test_options, dataset_test
from models.commands.export import add_backbone
from models.commands.options import add_reading_options
from models.commands.train_table import train_table
from models.commands.training_options import add_training_options, check_places, device_of, minutes
from models.contracts.names import is_file_name
from models.contracts.one_writer import one_writer
from models.data import registry
from models.data.dataset import Dataset
from models.evaluation import DrawnCandidates, EvaluationProtocol
from models.features import item_features
from models.networks.config import Config, LearningConfig
from models.training.baselines import baseline_metrics
from models.training.config import ConfigError, configs, load, path_of
from models.training.device import enough_memory
from models.training.fingerprint import fingerprint
from models.training.loop import trained_in
from models.training.measure import measure_test
from models.training.refit import SUFFIX, refit
from models.training.run import Origin, Run
from models.training.tensorboard import require_tensorboard


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="FOLDER", help="a data set")
    source.add_argument("--bundle", type=Path, metavar="FOLDER", help="a bundle: train on its catalogue")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", choices=configs(), help="a configuration of models/configs")
    model.add_argument("--config", type=Path, metavar="FILE", help="a configuration of your own (TOML)")
    parser.add_argument(
        "--text-view", choices=("raw", "enhanced"), help="enhanced: titles with captions (S2)"
    )
    parser.add_argument("--captioner", help="whose captions the enhanced view reads")
    add_reading_options(parser)
    add_training_options(parser)
    parser.add_argument("--name", help="of the run; default: <data set>-<model>")
    add_test_options(parser, default="all")
    parser.add_argument(
        "--export",
        nargs="?",
        const="",
        metavar="NAME",
        help="then add the recommender to --bundle, under this name or the model's",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of products of matrices while training; default: training.precision, which is fp32",
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        help="end after the epoch in which training and validation have taken so long, all calls together; "
        "with more minutes, or without the option, the run goes on",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help=f"then train anew on training and validation, for the best number of epochs, as NAME{SUFFIX}, "
        "whose test figures are printed too; --export takes that one",
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER", help="write loss and validation for TensorBoard"
    )


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The table to print.
    """
    if args.export is not None and args.bundle is None:
        raise ConfigError(
            "--export adds to the bundle that --bundle names; after --data, use `models export`"
        )
    check_places(args.runs, args.features_cache, args.tensorboard)
    if args.tensorboard is not None:
        require_tensorboard()
    checked = read_config(args)  # what is wrong in it is told before the data are read
    if args.refit and not isinstance(checked.training, LearningConfig):
        raise ConfigError(f"--refit: {checked.family} only counts, and has no best epoch: leave it out")
    device = device_of(args.device)
    if args.bundle:
        dataset = read_catalogue(args.bundle)
    else:
        dataset = registry.read(args.data, None, args.pictures, args.max_left_out)
    config = read_config(args, dataset.name)
    source, cohort = dataset_test(args, dataset)
    origin = _origin(args, config, dataset)
    if args.export is not None:  # hours before it is needed
        check_name(args.export or origin.model + (SUFFIX if args.refit else ""))
    name = f"{dataset.name}-{origin.model}" if args.name is None else args.name
    if not is_file_name(name):
        raise ConfigError(f"{name[:80]!r} is no name of a folder in {args.runs}: give the run another --name")
    target = Run(args.runs / name)
    with one_writer(target.folder), enough_memory(config):
        target.check(config, origin)  # refuses another run of this name before features are computed
        cache = args.features_cache or args.runs / "features"
        features = item_features(dataset, config.features, config.modalities, cache)
        board = _board(args, target)
        network, result = trained_in(target, config, origin, dataset, features, device, args.minutes, board)
        # A run from earlier may have been measured with another protocol than today's default.
        measured = result["metrics"]["test"]["protocol"]
        protocol = EvaluationProtocol(seed=measured["seed"], negatives=measured["negatives"])
        drawn = DrawnCandidates(dataset.histories, len(dataset.items), protocol)
        asked = drawn if source is None else source
        result = measure_test(network, dataset, target, result, asked, cohort)
        again, exported = None, target
        if args.refit:
            network, exported, again = refit(target, dataset, features, device, _board(args, target, SUFFIX))
            again = measure_test(network, dataset, exported, again, asked, cohort)
        table = train_table(
            result,
            baseline_metrics(dataset, asked, cohort),
            drawn,
            asked,
            cohort,
            again,
            config.features.described(config.modalities),
        )
        lines = [table, f"run          {target.folder}"]
        if args.refit:
            lines.append(f"refit        {exported.folder}")
        if args.export is not None:
            lines.append(add_backbone(exported, args.bundle, args.export or None))
    return "\n".join(lines)


def read_config(args: Namespace, dataset: str | None = None) -> Config:
    """Reads the configuration that the options name, with the values that they change.

    Args:
        args: options of the command.
        dataset: name of the data set, for which a configuration may have values of its own.
    """
    settings = list(args.settings)
    if args.text_view:
        settings.append(f'features.text_view="{args.text_view}"')
    if args.captioner:
        settings.append(f"features.captioner={args.captioner}")
    if args.precision:
        settings.append(f'training.precision="{args.precision}"')
    return load(args.config or path_of(args.model), settings, dataset)


def _board(args: Namespace, target: Run, suffix: str = "") -> Path | None:
    return args.tensorboard / (target.folder.name + suffix) if args.tensorboard is not None else None


def _origin(args: Namespace, config: Config, dataset: Dataset) -> Origin:
    model = args.model or args.config.stem
    # Raw and enhanced runs of one configuration stand beside each other in the runs folder and in a bundle. A
    # file that is enhanced by itself, such as s2-paper, has a name of its own.
    asked = args.text_view or any(each.startswith("features.text_view") for each in args.settings)
    if asked and config.features.text_view == "enhanced" and not model.endswith("-enhanced"):
        model += "-enhanced"
    return Origin(
        model=model,
        kind="bundle" if args.bundle else "data",
        folder=str((args.bundle or args.data).resolve()),
        photos=str(args.pictures.resolve()) if args.pictures else None,
        dataset=dataset.name,
        fingerprint=fingerprint(dataset, config),
    )
