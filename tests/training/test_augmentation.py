import numpy as np
import pytest

from hepfm.errors import InputError
from hepfm.models.configuration import KINEMATICS, TYPES
from hepfm.schema import TRACKS
from hepfm.training.augmentation import check_turnable, forget, turn

INPUTS = (*KINEMATICS, *TRACKS, *TYPES)
PT, ENERGY, DETA, DPHI, D0, D0_ERROR, DZ, DZ_ERROR, CHARGE = range(9)


def jets(n_jets=200, n=12, seed=0):
    values = np.random.default_rng(seed).normal(0, 1, (n_jets, n, len(INPUTS))).astype(np.float32)
    values[..., [D0_ERROR, DZ_ERROR]] = np.abs(values[..., [D0_ERROR, DZ_ERROR]])
    return values


@pytest.fixture
def turned():
    before = jets()
    after = before.copy()
    turn(after, INPUTS, np.random.default_rng(1))
    return before, after


def distances(values):
    plane = values[..., [DETA, DPHI]]
    return np.linalg.norm(plane[:, :, None] - plane[:, None], axis=-1)


def test_angles_between_constituents_and_to_the_axis_stay(turned):
    before, after = turned
    np.testing.assert_allclose(distances(after), distances(before), atol=1e-5)
    np.testing.assert_allclose(
        np.hypot(after[..., DETA], after[..., DPHI]), np.hypot(before[..., DETA], before[..., DPHI]), rtol=1e-5
    )


def test_what_is_no_direction_stays_to_the_last_bit(turned):
    before, after = turned
    kept = [i for i in range(len(INPUTS)) if i not in (DETA, DPHI, D0, DZ)]
    np.testing.assert_array_equal(after[..., kept], before[..., kept])
    np.testing.assert_array_equal(np.abs(after[..., [D0, DZ]]), np.abs(before[..., [D0, DZ]]))


def test_d0_keeps_its_sign_relative_to_dphi_and_dz_relative_to_deta_but_for_the_mirror_along_the_beam(turned):
    before, after = turned

    def signs(values, impact, place):
        return np.sign(values[..., impact] * values[..., place])

    np.testing.assert_array_equal(signs(after, D0, DPHI), signs(before, D0, DPHI))
    mirrored = signs(after, DZ, DETA) * signs(before, DZ, DETA)
    # One answer a jet, and each for about half of them.
    assert np.all(mirrored == mirrored[:, :1])
    assert 0.35 < np.mean(mirrored[:, 0] < 0) < 0.65


def test_angles_are_uniform_and_half_of_the_jets_are_mirrored():
    before = np.zeros((4000, 2, len(INPUTS)), np.float32)
    before[:, 0, DETA], before[:, 1, DPHI] = 1.0, 1.0
    after = before.copy()
    turn(after, INPUTS, np.random.default_rng(2))
    angle = np.arctan2(after[:, 0, DPHI], after[:, 0, DETA])
    handedness = after[:, 0, DETA] * after[:, 1, DPHI] - after[:, 0, DPHI] * after[:, 1, DETA]
    counts = np.histogram(angle, np.linspace(-np.pi, np.pi, 9))[0]

    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)
    np.testing.assert_allclose(np.abs(handedness), 1, rtol=1e-5)
    assert abs(np.mean(handedness > 0) - 0.5) < 0.04


def test_jets_turn_by_angles_of_their_own(turned):
    before, after = turned
    change = np.arctan2(after[..., DPHI], after[..., DETA]) - np.arctan2(before[..., DPHI], before[..., DETA])
    assert len(np.unique(np.round(change[:, 0], 3))) > 150


def test_inputs_without_tracks_turn_as_well():
    before = jets()[..., :4]
    after = before.copy()
    turn(after, KINEMATICS, np.random.default_rng(1))
    np.testing.assert_allclose(distances(after), distances(before), atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(("part_pt", "part_px", "part_py"), "part_px cannot be turned"), (("part_pt", "part_dphi"), "without part_deta")],
)
def test_inputs_that_cannot_be_turned_are_one_clear_line(inputs, message):
    with pytest.raises(InputError, match=message):
        check_turnable(inputs)


def test_groups_of_inputs_are_forgotten_together_in_the_asked_share_of_jets():
    values = jets(4000)
    groups = [[D0, D0_ERROR, DZ, DZ_ERROR], [CHARGE]]
    forget(values, groups, 0.2, np.random.default_rng(0))
    lost = np.isnan(values)

    for group in groups:
        assert np.all(lost[..., group] == lost[:, :1, group[:1]])
        assert abs(lost[:, 0, group[0]].mean() - 0.2) < 0.03
    assert not lost[..., :4].any()
