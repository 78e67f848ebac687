import numpy as np
import pytest
import torch
from tokenizer_samples import EVERYTHING

from hepfm.schema import TYPE_FLAGS
from hepfm.tokenizers.configuration import CHARGE, KINEMATICS, TokenizerConfig, TokenizerSettings
from hepfm.tokenizers.particle_tokenizer import ParticleTokenizer
from hepfm.tokenizers.targets import Targets


def constituents(n_constituents, inputs=EVERYTHING):
    """Physical inputs whose angles do not depend on pt, half of them of tracks."""
    rng = np.random.default_rng(5)
    values = {name: rng.normal(size=n_constituents) for name in inputs}
    values["part_pt"] = np.exp(rng.uniform(0.1, 5, n_constituents))
    values[CHARGE] = rng.integers(-1, 2, n_constituents)
    kinds = rng.integers(0, len(TYPE_FLAGS), n_constituents)
    values |= {kind: (kinds == place).astype(float) for place, kind in enumerate(TYPE_FLAGS)}
    for name in ("part_d0val", "part_d0err", "part_dzval", "part_dzerr"):
        values[name] = np.where(values[CHARGE] != 0, np.abs(values.get(name, 0.0)), 0.0)
    return torch.tensor(np.stack([values[name] for name in inputs], 1), dtype=torch.float32)


def as_outputs(targets, values):
    """What a network that is right predicts."""
    numbers, charge, kind = targets.split(values)
    logits = [torch.nn.functional.one_hot(charge, 3), torch.nn.functional.one_hot(kind, len(TYPE_FLAGS))]
    return torch.cat([numbers, *logits], -1) if targets.has_charge else numbers


@pytest.mark.parametrize("angle_power", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("inputs", [KINEMATICS, EVERYTHING], ids=["kinematics", "everything"])
def test_what_a_perfect_network_predicts_is_what_went_in(inputs, angle_power):
    values = constituents(500, inputs)
    targets = Targets(inputs, angle_power)
    targets.fit(values)

    torch.testing.assert_close(targets.physical(as_outputs(targets, values)), values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("angle_power", [0.0, 0.3, 1.0])
def test_kinematics_and_numbers_are_the_same_thing(angle_power):
    values = constituents(500, KINEMATICS)
    targets = Targets(KINEMATICS, angle_power)
    targets.fit(values)
    numbers = targets.split(values)[0]

    torch.testing.assert_close(targets.kinematics(numbers), values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(targets.from_kinematics(values), numbers, rtol=1e-4, atol=1e-5)


def test_an_error_of_an_angle_falls_with_pt_by_the_power_that_was_asked_for():
    values = constituents(500, KINEMATICS)
    targets = Targets(KINEMATICS, 0.5)
    targets.fit(values)
    numbers = targets.split(values)[0]
    shifted = targets.kinematics(numbers + torch.tensor([0.0, 0.01, 0.0]))

    error, pt = (shifted - values)[:, 1], values[:, 0]
    torch.testing.assert_close(error * pt.sqrt() / (error[0] * pt[0].sqrt()), torch.ones(500), rtol=1e-2, atol=0)


def test_codes_that_measure_angles_by_pt_keep_hard_constituents_better():
    values = constituents(4000, KINEMATICS)
    values[:, 1:] /= values[:, :1].sqrt()  # as in jets, whose hard constituents lie near the axis
    hard = values[:, 0] > 60
    errors = {}
    for angle_power in (0.0, 0.5):
        how = TokenizerSettings(context="none", quantiser="kmeans", n_codes=256, angle_power=angle_power)
        tokenizer = ParticleTokenizer(TokenizerConfig(how))
        tokenizer.targets.fit(values)
        tokenizer.network.fit(tokenizer.targets.as_network_input(values), seed=1)
        found = tokenizer.decode(tokenizer.encode(values.unsqueeze(0))).squeeze(0)
        errors[angle_power] = (found - values)[hard, 1:].abs().mean().item()

    assert errors[0.5] < 0.8 * errors[0.0]
