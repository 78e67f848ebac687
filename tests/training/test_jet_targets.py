import numpy as np
import pytest
import torch

import hepfm
from hepfm.errors import InputError
from hepfm.inputs import columns_for, constituent_inputs
from hepfm.models.configuration import KINEMATICS, TRACKS
from hepfm.models.mpm import JET_TARGETS, NOT_ASKED
from hepfm.training.augmentation import turn
from hepfm.training.batches import PaddedJets
from hepfm.training.jet_targets import COLUMNS, displacements, jet_targets
from hepfm.training.masking import MaskedBatches, Views

INPUTS = (*KINEMATICS, *TRACKS)


@pytest.fixture(scope="module")
def table(small_campaign):
    return hepfm.open(small_campaign[1]).read_table([*COLUMNS, *columns_for(INPUTS)], variation="quick")


def test_targets_of_jets_are_standardised_logarithms_of_their_observables(table):
    found = jet_targets(table)

    assert found.shape == (table.n_jets, len(JET_TARGETS))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-5)
    for name, expected in (
        ("sdmass", np.maximum(table.columns["jet_sdmass"], 1.0)),
        ("tau21", table.columns["jet_tau2"].clip(1e-3) / table.columns["jet_tau1"].clip(1e-3)),
        ("nparticles", table.counts),
        ("n_displaced", 1 + _displaced_tracks(table)),
    ):
        # What is standardised is on a line with what it is made of.
        correlation = np.corrcoef(found[:, JET_TARGETS.index(name)], np.log(expected))[0, 1]
        assert correlation == pytest.approx(1.0, abs=1e-5), name


def _displaced_tracks(table):
    d0, error = table.constituents["part_d0val"], table.constituents["part_d0err"]
    return np.array(
        [
            sum(1 for i in range(first, last) if error[i] > 0 and abs(d0[i]) > 3 * error[i])
            for first, last in zip(table.offsets[:-1], table.offsets[1:], strict=True)
        ]
    )


def test_jets_without_tracks_have_no_displaced_ones(table):
    names = [name for name in table.constituents if name not in TRACKS]
    bare = type(table)(table.columns, table.offsets, {name: table.constituents[name] for name in names})

    assert not jet_targets(bare)[:, JET_TARGETS.index("n_displaced")].any()
    np.testing.assert_array_equal(jet_targets(bare)[:, 0], jet_targets(table)[:, 0])


def test_jets_without_substructure_are_refused_in_one_line(table):
    bare = type(table)({}, table.offsets, table.constituents)
    with pytest.raises(InputError, match=r"mpm.targets has 'jet'. unknown column of jets 'jet_sdmass'"):
        jet_targets(bare)


@pytest.mark.parametrize(
    ("d0", "dz", "expected"),
    [(0.0, 0.0, 0), (0.9, 0.0, 0), (1.1, 1.1, 1), (0.0, -2.5, 2), (-3.0, 3.0, 3), (8.0, 0.0, 4), (-40.0, 10.0, 5)],
)
def test_displacements_are_significances_added_in_quadrature(d0, dz, expected):
    names = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")
    track = torch.tensor([[d0 * 0.01, 0.01, dz * 0.05, 0.05]])

    assert displacements(track, names).tolist() == [expected]


def test_what_has_no_track_is_not_asked_for_one():
    names = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")
    neutral, unknown = [0.0, 0.0, 0.0, 0.0], [torch.nan] * 4

    assert displacements(torch.tensor([neutral, unknown]), names).tolist() == [NOT_ASKED, NOT_ASKED]


def test_displacements_stay_when_a_jet_is_turned(table):
    constituents = constituent_inputs(table, INPUTS)[:40].reshape(1, 40, -1)
    before = displacements(torch.from_numpy(constituents.copy()), INPUTS)
    turn(constituents, INPUTS, np.random.default_rng(3))

    assert (before >= 0).sum() > 10
    assert torch.equal(displacements(torch.from_numpy(constituents), INPUTS), before)


def test_displacements_in_a_batch_are_those_of_the_hidden_constituents(table):
    """Even where the network is not told the tracks."""
    jets = PaddedJets(table, INPUTS, trim=True)
    make = MaskedBatches(
        jets, INPUTS, share=0.4, targets=["inputs", "displacement"], views=Views(rotate=False, forget=1.0)
    )
    rows = np.arange(len(jets))
    batch, whole = make(rows, np.random.default_rng(0)), jets.__getitems__(rows)
    expected = displacements(whole["constituents"], INPUTS).gather(1, batch["hidden_ranks"])

    assert batch["constituents"][batch["mask"]].isnan().any()
    assert torch.equal(batch["hidden_displacements"][batch["hidden_mask"]], expected[batch["hidden_mask"]])
    assert len(expected[batch["hidden_mask"]].unique()) > 3


def test_inputs_without_tracks_are_refused_in_one_line(table):
    jets = PaddedJets(table, KINEMATICS, trim=True)
    with pytest.raises(InputError, match=r"mpm.targets has 'displacement', but the inputs have no part_d0val"):
        MaskedBatches(jets, KINEMATICS, share=0.4, targets=["displacement"], views=Views())
