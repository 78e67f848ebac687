import math

import numpy as np
import pytest
import torch

import hepfm
from hepfm.errors import InputError
from hepfm.inputs import columns_for, constituent_inputs
from hepfm.models.configuration import KINEMATICS, TYPES
from hepfm.models.mpm import JET_TARGETS, NOT_ASKED
from hepfm.schema import TRACKS
from hepfm.training.augmentation import turn
from hepfm.training.batches import PaddedJets
from hepfm.training.jet_targets import COLUMNS, Scale, displacements, jet_targets
from hepfm.training.masking import MaskedBatches, Views

INPUTS = (*KINEMATICS, *TYPES, *TRACKS)


@pytest.fixture(scope="module")
def table(small_campaign):
    return hepfm.open(small_campaign[1]).read_table([*COLUMNS, *columns_for(INPUTS)], variation="quick")


def test_targets_of_jets_are_standardised(table):
    numbers = jet_targets(table)
    numbers[0] = np.nan
    found = Scale.of(numbers)(numbers)[1:]

    assert found.shape == (table.n_jets - 1, len(JET_TARGETS))
    assert np.isnan(Scale.of(numbers)(numbers)[0]).all()
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    changing = found.std(0) > 0
    np.testing.assert_allclose(found.std(0)[changing], 1, atol=1e-5)
    assert changing.sum() > 12


def test_units_of_targets_are_those_of_the_jets_that_they_were_taken_from(table):
    numbers = jet_targets(table)
    scale = Scale.of(numbers)
    np.testing.assert_allclose(scale(numbers[:5]) * scale.width + scale.mean, numbers[:5], rtol=1e-5, atol=1e-5)


def test_targets_of_jets_are_their_observables(table):
    """What is standardised is on a line with what it is made of."""
    numbers = jet_targets(table)
    found = Scale.of(numbers)(numbers)
    observables = _observables(table)
    assert set(observables) < set(JET_TARGETS)
    for name, expected in observables.items():
        targets = found[:, JET_TARGETS.index(name)]
        if np.std(expected) > 0:
            assert np.corrcoef(targets, expected)[0, 1] == pytest.approx(1.0, abs=1e-5), name
        else:
            assert not targets.any(), name


def _observables(table):
    """Some of the targets, constituent by constituent."""
    rows = []
    for first, last in zip(table.offsets[:-1], table.offsets[1:], strict=True):
        jet = {name: values[first:last].astype(float) for name, values in table.constituents.items()}
        pt = np.hypot(jet["part_px"], jet["part_py"])
        d0 = sorted(
            (
                abs(d) / error if error > 0 else 0.0
                for d, error in zip(jet["part_d0val"], jet["part_d0err"], strict=True)
            ),
            reverse=True,
        )
        muons = [p for p, muon in zip(pt, jet["part_isMuon"], strict=True) if muon]
        rows.append(
            {
                "photon_share": sum(pt * jet["part_isPhoton"]) / sum(pt),
                "muon_pt": math.log(1 + max(muons, default=0.0)),
                "n_displaced": math.log(1 + sum(d > 3 for d in d0)),
                "n_far_displaced": math.log(1 + sum(d > 10 for d in d0)),
                "d0_first": math.log(1 + d0[0]),
                "d0_third": math.log(1 + d0[2]) if len(d0) > 2 else 0.0,
            }
        )
    of_table = {
        "sdmass": np.log(np.maximum(table.columns["jet_sdmass"], 1.0)),
        "tau21": np.log(table.columns["jet_tau2"].clip(1e-3) / table.columns["jet_tau1"].clip(1e-3)),
        "nparticles": np.log(table.counts),
    }
    return of_table | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_jets_of_b_quarks_have_more_displaced_tracks(small_campaign):
    """Hadrons with a b quark fly millimetres before they decay."""
    data = hepfm.open(small_campaign[1])
    jets = data.read_table([*COLUMNS, *columns_for(INPUTS), "jet_label"], variation="quick")
    found, labels = jet_targets(jets), jets.columns["jet_label"]
    is_b, is_qcd = (labels == data.classes.index(name) for name in ("Hbb", "QCD"))

    assert min(is_b.sum(), is_qcd.sum()) > 10
    for name in ("n_displaced", "displaced_share", "d0_third"):
        target = found[:, JET_TARGETS.index(name)]
        error = np.hypot(target[is_b].std() / is_b.sum() ** 0.5, target[is_qcd].std() / is_qcd.sum() ** 0.5)
        assert target[is_b].mean() - target[is_qcd].mean() > 3 * error, name


def test_what_is_unknown_is_not_asked_of_jets(table):
    names = [name for name in table.constituents if name not in TRACKS]
    bare = type(table)(table.columns, table.offsets, {name: table.constituents[name] for name in names})
    unknown = np.isnan(jet_targets(bare))

    assert JET_TARGETS[unknown.all(0).argmax()] == "displaced_share"
    np.testing.assert_array_equal(unknown.any(0), unknown.all(0))
    known = ~unknown.any(0)
    assert known.sum() == JET_TARGETS.index("displaced_share")
    np.testing.assert_array_equal(jet_targets(bare)[:, known], jet_targets(table)[:, known])


def test_one_jet_of_unknown_tracks_leaves_the_others_alone(table):
    tracks = {name: table.constituents[name].astype(np.float32) for name in TRACKS}
    for values in tracks.values():
        values[table.offsets[3]] = np.nan
    found = jet_targets(type(table)(table.columns, table.offsets, table.constituents | tracks))

    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [3]


def test_jets_without_substructure_are_refused_in_one_line(table):
    bare = type(table)({}, table.offsets, table.constituents)
    with pytest.raises(InputError, match=r"mpm.targets has 'jet'. unknown column of jets 'jet_sdmass'"):
        jet_targets(bare)


@pytest.mark.parametrize(
    ("d0", "dz", "expected"),
    [(0.0, 0.0, 0), (0.9, 0.0, 0), (1.1, 1.1, 1), (0.0, -2.5, 2), (-3.0, 3.0, 3), (8.0, 0.0, 4), (-40.0, 10.0, 5)],
)
def test_displacements_are_significances_added_in_quadrature(d0, dz, expected):
    track = torch.tensor([[d0 * 0.01, 0.01, dz * 0.05, 0.05]])

    assert displacements(track, TRACKS).tolist() == [expected]


def test_what_has_no_track_is_not_asked_for_one():
    neutral, unknown, without_d0 = [0.0, 0.0, 0.0, 0.0], [torch.nan] * 4, [torch.nan, 0.01, 0.0, 0.05]

    assert displacements(torch.tensor([neutral, unknown, without_d0]), TRACKS).tolist() == [NOT_ASKED] * 3


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
