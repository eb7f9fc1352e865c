from __future__ import annotations

import torch
from toy_models import circle, config

from models.comparison import epoch_time
from models.comparison.epoch_time import EpochTime, at_batch, time_epoch

CPU = torch.device("cpu")


def test_an_epoch_is_timed_at_64_sequences_a_step_whatever_the_configuration_has() -> None:
    changed = at_batch(config(training={"positions": 128}))
    assert changed is not None
    assert (changed.training.sequences, changed.training.positions) == (64, 0)  # type: ignore[attr-defined]


def test_the_seconds_of_the_steps_are_scaled_to_an_epoch() -> None:
    dataset = circle()
    time = time_epoch(config(), dataset, {}, CPU)
    assert time is not None
    assert time.steps == time.of - epoch_time.WARM_UP  # the circle has fewer than 200 steps
    assert time.seconds > 0
    assert EpochTime.from_json(time.to_json()) == time
    assert EpochTime.from_json({"seconds": "soon"}) is None
