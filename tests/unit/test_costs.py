"""What ways of stage 2 cost by count, and when one is as good as the paper's run."""

import re

import pandas as pd
import pytest

from benchmarks.stage2 import Operations, speedup_at_equal_quality
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import Guidance, Sampler

OPERATIONS = Operations(unet=1, unet_back=2, decoder=10, decoder_back=20)
SAMPLER = {"n_steps": 4, "noise_index": 3, "denoise_steps": 4}


@pytest.mark.parametrize(
    ("guidance", "sampler", "calls", "teraflops"),
    [
        ({}, {}, 3 * (4 + 2 * 4), 3 * (4 * 1 + 4 * 2 + 30)),
        ({"gradient_steps": 1}, {}, 3 * (4 + 2), 3 * (4 * 1 + 2 + 30)),
        ({}, {"solver": "dpm_solver_pp_2m", "solver_steps": 2}, 3 * 6, 3 * (2 * 1 + 2 * 2 + 30)),
        ({"method": "in_sampler", "repeats": 2}, {}, 2 * 8, 8 * (2 + 30) + 10),
        ({"method": "before_sampler"}, {}, 4, 3 * 30 + 4 * 1 + 10),
    ],
)
def test_operations_are_counted_for_each_way(guidance, sampler, calls, teraflops):
    settings = Guidance(n_iterations=3, **guidance), Sampler(**SAMPLER, **sampler)
    assert OPERATIONS.stage2(*settings) == (calls, teraflops)


def test_of_images_that_stop_only_their_own_iterations_count():
    settings = Guidance(n_iterations=300, patience=5), Sampler(**SAMPLER)
    assert OPERATIONS.stage2(*settings, n_iterations=1.5) == (1.5 * 12, 1.5 * 42)


def test_the_speedup_is_of_the_cheapest_second_stage_of_equal_quality():
    rows = pd.DataFrame(
        [("paper", "stage 2", 100.0, True), ("dear", "stage 2", 20.0, True), ("cheap", "stage 2", 8.0, True),
         ("bad", "stage 2", 1.0, False), ("stage 1", "no stage 2", 0.5, True)],
        columns=["way", "kind", "tflop", "equal"],
    )  # fmt: skip
    assert speedup_at_equal_quality(rows) == 12.5
    assert speedup_at_equal_quality(rows.assign(equal=rows["way"] == "paper")) is None


@pytest.mark.parametrize("name", ["nsd_fast", "nsd_restored"])
def test_the_fast_preset_costs_at_most_an_exaflop_for_the_test_images_of_a_subject(name):
    """As printed by benchmarks/stage2.py for the settings that the configuration has."""
    experiment = load(REPOSITORY / "configs" / f"{name}.yaml").experiment
    calls, _ = OPERATIONS.stage2(experiment.guidance, experiment.sampler)
    printed = re.search(
        rf"{name}\.yaml: .* stage 2 ([\d,]+) guided U-Net calls .* ([\d.]+) EFLOP for 982"
        r"(?:; the best of (\d+) noises of (\d+) restored images ([\d.]+) EFLOP)?",
        (REPOSITORY / "docs" / "stage2.txt").read_text(),
    )
    assert printed
    assert int(printed[1].replace(",", "")) == calls
    assert float(printed[2]) + float(printed[5] or 0) <= 1
    if experiment.decoding.restore_variance == "train":
        ours = experiment.restored.guidance
        assert [int(printed[3]), int(printed[4])] == [ours.n_iterations, ours.n_images]
