import numpy as np

from hepfm.training.reconstruction import Reconstruction
from hepfm.training.two_sample import two_sample_test


def jets(n_jets, change):
    rng = np.random.default_rng(4)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(5, 15, n_jets))]).astype(np.int64)
    true = np.column_stack([rng.exponential(20, offsets[-1]) + 1, rng.normal(0, 0.2, (offsets[-1], 2))])
    ids = np.zeros(len(true), np.int64)
    names = ("part_pt", "part_deta", "part_dphi")
    return Reconstruction(names, offsets, np.float32(true), np.float32(change(true.copy())), ids, 2)


def test_jets_that_are_the_same_cannot_be_told_apart():
    found = two_sample_test(jets(1000, lambda true: true), n_epochs=3)

    assert abs(found.auc - 0.5) < 4 * found.error
    assert 0.01 < found.error < 0.04
    assert found.n_test == 500


def test_angles_on_a_coarse_grid_give_decoded_jets_away():
    def rounded(values):
        values[:, 1:] = np.round(values[:, 1:] / 0.4) * 0.4
        return values

    found = two_sample_test(jets(600, rounded), n_epochs=40)

    assert found.auc > 0.9


def test_the_same_seed_gives_the_same_result():
    made = jets(200, lambda true: true * 1.05)

    assert two_sample_test(made, n_epochs=1, seed=2) == two_sample_test(made, n_epochs=1, seed=2)
