"""What an author reports beside what a run here comes to, and where it is left out."""

import numpy as np
import pytest

from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.population import Progress
from cnn.results import beside_reported, reported_lines
from cnn.zoo import ZOO, Reported
from harness.errors import UserError

PUBLISHED = [name for name, entry in ZOO.items() if entry.reported is not None]
OTHERWISE = [
    *({"epochs": 3}, {"recipe": "compact_20k"}, {"rotation": 5.0}, {"batch_size": 100}),
    *({"validation_size": 5000}, {"compute_dtype": "bfloat16"}, {"dataset": "kmnist"}),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_its_authors_claim_as_it_is_published(name):
    of_zoo, recipe = ZOO[name].reported, ZOO[name].recipe
    for same in ({}, {"epochs": recipe.epochs, "seed": 7, "num_seeds": 3, "max_epochs": 30}):
        assert resolve(CnnConfig(model=name, **same)).claim == of_zoo
    assert 0.98 < of_zoo.last <= of_zoo.best < 1
    assert of_zoo.best_epoch <= recipe.epochs


@pytest.mark.parametrize("otherwise", OTHERWISE, ids=str)
def test_what_is_trained_otherwise_has_none(otherwise):
    assert resolve(CnnConfig(model="deep_15k", **otherwise)).claim is None
    reported = resolve(CnnConfig(model="deep_15k", reported="0.99,1,0.98")).flags.reported
    assert resolve(CnnConfig(model="deep_15k", reported=reported)).claim == Reported(0.99, 1, 0.98)
    assert resolve(CnnConfig(model="deep_15k", reported=reported, **otherwise)).claim is None


def test_our_own_networks_have_none():
    assert resolve(CnnConfig()).claim is None
    assert resolve(CnnConfig(layers=ZOO["bn_4k"].layers, recipe="bn_4k")).claim is None


def result(*accuracies):
    """Of a run whose seeds have these test accuracies after each epoch."""
    rows = [
        {"seed": seed, "epoch": epoch, "test_accuracy": each}
        for seed, of_seed in enumerate(accuracies)
        for epoch, each in enumerate(of_seed, 1)
    ]
    return Progress(np.arange(len(accuracies), dtype=np.uint32), None, None, rows)


def test_several_seeds_are_compared_best_with_best_and_last_with_last():
    experiment = resolve(
        CnnConfig(layers="dense 10", recipe="bn_4k", epochs=3, reported="0.96,2,0.94,4", num_seeds=3)
    )
    found = beside_reported(experiment, result([0.9, 0.97, 0.94], [0.95, 0.94, 0.92], [0.9, 0.91, 0.99]))
    assert found == {
        "final_test_accuracy": 0.94,
        "our_final_test_accuracy": pytest.approx(0.95),
        "seeds_below": 1,  # one is equal
        "best_test_accuracy": 0.96,
        "best_epoch": 2,
        "our_best_test_accuracy": pytest.approx(0.97),
        "best_epoch_chosen_on": "test images",
        "departures": 4,
    }
    assert reported_lines(found, 3).splitlines() == [
        "",
        "last epoch: its author reports 94.00%, ours 95.00%, mean of 3 seeds (1 below)",
        "best epoch: its author reports 96.00% (epoch 2), ours 97.00%, mean of 3 seeds; "
        "each chosen on the test images",
        "the recipe is not quite its author's, points that differ: 4",
    ]


def test_a_run_that_is_not_finished_is_compared_with_nothing():
    experiment = resolve(
        CnnConfig(layers="dense 10", recipe="bn_4k", epochs=3, reported="0.96,2,0.94", num_seeds=2)
    )
    assert beside_reported(experiment, result([0.9, 0.97, 0.94], [0.95, 0.94])) is None


def test_what_is_reported_without_a_digest_is_of_what_is_trained():
    with pytest.raises(UserError, match=r"--reported=0\.9,1,0\.95: give the best"):
        resolve(CnnConfig(reported="0.9,1,0.95"))
    kept = resolve(CnnConfig(reported="0.95,1,0.9")).flags.reported
    assert kept.startswith("0.95,1,0.9@")
    assert kept != resolve(CnnConfig(reported="0.95,1,0.9", epochs=3)).flags.reported
