"""Programs of our own: what the audit reads is what PyTorch did, and each mistake is named."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audit.notebook.claims import Limits
from audit.notebook.verdict import audit_notebook
from cnn import optimizer
from tests.audit.notebook.judge import recorded, run_all
from tests.audit.notebook.programs import PROGRAMS, program

MISTAKES = {
    "a split's data set distorted": {"test_images_augmented"},
    "a subset's data set distorted": {"test_images_augmented"},
    "stepped by batch": {"schedule_stepped_per_batch"},
    "milestones of batches": {"schedule_stepped_per_batch"},
    "never stepped": {"schedule_never_stepped"},
    "no evaluation mode": {"no_eval_mode"},
    "no training mode": {"stays_in_evaluation"},
    "gradients never zeroed": {"gradients_never_zeroed"},
    "gradients zeroed once an epoch": {"gradients_never_zeroed"},
    "gradients zeroed before the step": {"zeroed_before_step"},
    "trained on test images": {"trained_on_test_images"},
    "trained on both": {"trained_on_test_images"},
    "evaluated on training images": {"test_is_training_set"},
    "another network evaluated": {"other_model_evaluated"},
    "an old network's optimizer": {"optimizer_of_other_model"},
    "test images not normalised": {"normalization_differs"},
    "mean losses summed": {"test_loss_of_batches"},
    "other settings printed": {"printed_settings"},
    "fields doubled": {"receptive_fields"},
    "fields wrong from the start": {"receptive_fields"},
}
"""Of all others no mistake is named."""
IN_PART = {
    "groups": "groups of parameters of their own: lr=0.01",
    "a group added": "groups of parameters of their own: lr=0.01",
    "weights without an optimizer": "a is not trained: the optimizer does not have it",
    "stepped by batch": "StepLR, stepped after every batch: 5e-12 after the first epoch",
    "milestones of batches": "MultiStepLR, stepped after every batch: 0.0005 after the first epoch",
    "no training mode": "after the first epoch it trains in evaluation mode",
    "gradients never zeroed": "its gradients are never zeroed",
    "gradients zeroed once an epoch": "its gradients are never zeroed",
    "gradients zeroed before the step": "its gradients are zeroed before it takes them",
    "trained on test images": "it trains on the test images",
    "trained on both": "it trains on the test images",
    "an old network's optimizer": "it has another network than the loop trains",
    "weights by class name": "normal_",
    "a break": "the loop does not train on every batch",
    "other labels": "labels.roll(1): the loop itself changes the labels",
}
"""Why flags cannot say a recipe; all others are whole."""
REMARKED = {
    "stepped before",
    "stepped twice",
    "halved twice",
    "stepped before the training",
    "stepped in some epochs",
}


@functools.cache
def record():
    return recorded()


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_read_is_what_pytorch_did(name, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(program(name))
    audit, did = audit_notebook(file, Limits()), record()[name]
    network, recipe = audit.network, audit.recipe
    found = {finding.name for finding in audit.findings}
    assert {finding.name for finding in audit.mistakes} == MISTAKES.get(name, set())
    assert ("schedule_steps" in found) == (name in REMARKED)
    assert (network.class_name, network.parameters) == (did["class"], did["parameters"])
    assert [each.name for each in network.layers if each.name in did["order"]] == did["order"]
    assert ("stays_in_evaluation" in found) == (False in did["training_modes"])
    assert ("no_eval_mode" in found) == (True in did["evaluation_modes"])
    assert ("gradients_never_zeroed" in found) == (not did["zeroed"])
    assert ("zeroed_before_step" in found) == did["empty"]
    assert [call.name for call in recipe.train_transforms] == did["transforms"]
    if recipe.test_transforms is not None:
        assert [call.name for call in recipe.test_transforms] == did["evaluated"]
    rates = [rate for rate, count in did["rates"] for _ in range(count)]
    if recipe.rates and name not in IN_PART:
        assert recipe.rates == pytest.approx(rates[:: len(rates) // recipe.epochs.value])
    if name in IN_PART:
        assert recipe.recipe is None
        assert IN_PART[name] in [fact.detail for fact in recipe.missing]
        return
    assert (did["trained"], len({*did["groups"]})) == (did["parameters"], 1)
    size = recipe.batch_size[-1].value  # without a GPU, as it was recorded
    ours = dataclasses.replace(recipe.recipe, batch_size=size)
    steps = -(-(60_000 - recipe.held_out) // size)
    factor = jax.vmap(optimizer.schedule(ours, steps))(jnp.arange(ours.epochs * steps))
    wanted = np.broadcast_to(ours.learning_rate * factor, len(rates))
    np.testing.assert_allclose(wanted, rates, rtol=1e-5, atol=1e-8)  # float32's cosine


@pytest.mark.torch
def test_the_record_is_what_pytorch_does_here():
    fresh = run_all()
    assert fresh.keys() == record().keys()
    for name, before in record().items():
        assert fresh[name].keys() == before.keys()
        for key, value in before.items():
            if key != "rates":
                assert fresh[name][key] == value, (name, key)
        flat = [[*itertools.chain(*each[name]["rates"])] for each in (fresh, record())]
        assert flat[0] == pytest.approx(flat[1], rel=1e-9)
