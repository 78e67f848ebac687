import numpy as np
import pytest
from scipy import stats

from hepfm.run_folder import finite
from hepfm.training.comparison import read_evaluations, row_of
from hepfm.training.reconstruction import (
    Reconstruction,
    accuracies,
    code_use,
    constituent_errors,
    jet_errors,
    jet_observables,
    measure,
    robust_sigma,
    summarise,
    table_rows,
)

KINEMATICS = ("part_pt", "part_deta", "part_dphi")


def some_jets(n_jets=50, seed=1):
    """Constituents of random jets, shape (M, 3), and their offsets."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(5, 30, n_jets))])
    pt = rng.exponential(20, offsets[-1]) + 1
    return np.column_stack([pt, rng.normal(0, 0.2, (offsets[-1], 2))]).astype(np.float32), offsets.astype(np.int64)


def before_and_after(true, decoded, offsets, inputs=KINEMATICS, **more):
    ids = np.zeros(len(true), np.int64)
    return Reconstruction(inputs, offsets, np.float32(true), np.float32(decoded), ids, 16, **more)


def test_robust_sigma_is_the_standard_deviation_of_a_gaussian_and_does_not_feel_tails():
    values = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000) * 3 + 7

    assert robust_sigma(values) == pytest.approx(3, rel=1e-3)
    values[:1000] -= 1e6
    assert robust_sigma(values) == pytest.approx(3, rel=0.03)
    assert np.isnan(robust_sigma(np.array([])))


def test_summary_has_median_sigma_and_what_95_per_cent_stay_below():
    found = summarise(np.arange(-10.0, 91.0))

    assert (found["n"], found["median"]) == (101, 40)
    assert found["sigma"] == pytest.approx(34.135)
    assert found["within95"] == pytest.approx(85)


def test_errors_of_constituents_are_relative_for_pt_and_differences_for_angles():
    true = np.array([[10.0, 0.1, -0.2], [50.0, 0.0, 0.3]])
    decoded = np.array([[11.0, 0.1, -0.1], [45.0, -0.05, 0.3]])
    errors = constituent_errors(before_and_after(true, decoded, np.array([0, 2])))

    np.testing.assert_allclose(errors["part_pt"], [0.1, -0.1], rtol=1e-5)
    np.testing.assert_allclose(errors["part_deta"], [0, -0.05], atol=1e-7)
    np.testing.assert_allclose(errors["part_dphi"], [0.1, 0], atol=1e-7)


def test_impact_parameters_count_where_there_is_a_charge_and_flags_as_a_whole():
    inputs = (*KINEMATICS, "part_d0val", "part_charge", "part_isPhoton", "part_isMuon")
    true = np.array([[1, 0, 0, 0.5, 1, 0, 1], [1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0.2, -1, 0, 1]])
    decoded = np.array([[1, 0, 0, 0.7, 1, 0, 1], [1, 0, 0, 9, 0, 0, 1], [1, 0, 0, 0.2, 1, 0, 1]])
    made = before_and_after(true, decoded, np.array([0, 3]), inputs)

    np.testing.assert_allclose(constituent_errors(made)["part_d0val"], [0.2, np.nan, 0], atol=1e-6)
    assert accuracies(made) == pytest.approx({"charge": 2 / 3, "kind": 2 / 3})


def test_observables_of_two_constituents_are_those_of_the_formulae():
    pt, half = 100.0, 0.2
    kinematics = np.array([[pt, half, 0], [pt, -half, 0], [300, 0, 0]])
    found = jet_observables(kinematics, np.array([0, 2, 2, 3]))

    assert found["jet_pt"] == pytest.approx([2 * pt, 0, 300])
    # Two massless particles: m^2 = 2 pt^2 (cosh deta - cos dphi).
    mass = np.sqrt(2 * pt**2 * (np.cosh(2 * half) - 1))
    assert found["jet_mass"] == pytest.approx([mass, 0, 0], abs=1e-4)
    assert found["jet_sdmass"][0] == pytest.approx(mass, rel=1e-6)
    assert found["jet_tau21"][0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(found["jet_tau21"][1:]).all()


def test_observables_do_not_depend_on_the_sign_of_deta_or_the_order_of_constituents():
    kinematics, offsets = some_jets()
    one = jet_observables(kinematics, offsets)
    mirrored = jet_observables(kinematics * [1, -1, 1], offsets)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((np.random.default_rng(3).random(len(kinematics)), owner))
    shuffled = jet_observables(kinematics[order], offsets)

    for name, values in one.items():
        np.testing.assert_allclose(mirrored[name], values, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(shuffled[name], values, rtol=1e-5, atol=1e-4)


def test_momenta_that_are_ten_per_cent_too_large_make_jets_ten_per_cent_too_hard_and_heavy():
    true, offsets = some_jets()
    errors = jet_errors(before_and_after(true, true * np.float32([1.1, 1, 1]), offsets))
    mass = jet_observables(true, offsets)["jet_mass"]

    np.testing.assert_allclose(errors["jet_pt"], 0.1, rtol=1e-4)
    np.testing.assert_allclose(errors["jet_mass"], 0.1 * mass, rtol=1e-3)
    np.testing.assert_allclose(errors["jet_tau21"], 0, atol=1e-5)


def test_a_perfect_reconstruction_has_no_error():
    true, offsets = some_jets()
    found = measure(before_and_after(true, true, offsets))

    for group in ("constituents", "jets"):
        for values in found[group].values():
            assert values["sigma"] == values["median"] == values["within95"] == 0


def test_figures_by_class_and_by_rank_are_those_of_their_members():
    true, offsets = some_jets()
    labels = np.arange(len(offsets) - 1) % 2
    owner = np.repeat(labels, np.diff(offsets))
    rank = np.arange(len(true)) - np.repeat(offsets[:-1], np.diff(offsets))
    decoded = true.copy()
    decoded[:, 1] += np.where(owner == 1, 0.01, 0) + np.where(rank == 0, 1, 0)
    made = before_and_after(true, decoded, offsets, labels=labels, classes=("QCD", "Hbb", "none"))
    found = measure(made)

    assert set(found["by_class"]) == {"QCD", "Hbb"}
    assert found["by_class"]["Hbb"]["constituents"]["part_deta"]["median"] == pytest.approx(0.01, abs=1e-6)
    assert found["by_class"]["QCD"]["constituents"]["part_deta"]["n"] == int((owner == 0).sum())
    assert found["by_class"]["QCD"]["jets"]["jet_pt"]["n"] == 25
    assert found["by_rank"]["1"]["part_deta"]["median"] == pytest.approx(1.0, abs=0.011)
    assert found["by_rank"]["2-3"]["part_deta"]["median"] < 0.011
    assert sum(v["part_deta"]["n"] for v in found["by_rank"].values()) == len(true)


def test_what_there_is_nothing_of_is_unknown_in_tables():
    true, offsets = some_jets()
    found = finite(measure(before_and_after(true[:0], true[:0], offsets[:1])))
    rows = table_rows(found)

    assert found["jets"]["jet_pt"] == {"n": 0, "median": None, "sigma": None, "within95": None}
    assert all(row[2:] == ("-", "-", "-") for row in rows)
    assert row_of({"quantiser": "ema", "context": "jet"} | found)["jet_pt"] is None


@pytest.mark.parametrize(
    ("ids", "used", "perplexity"),
    [([0, 1, 2, 3], 1, 4), ([1, 1, 1, 1], 0.25, 1), ([0, 0, 1, 1], 0.5, 2), ([0] * 9 + [1], 0.5, 1.384145)],
)
def test_use_of_codes(ids, used, perplexity):
    found = code_use(np.array(ids), 4)

    assert found["used"] == used
    assert found["perplexity"] == pytest.approx(perplexity, rel=1e-6)
    assert found["entropy"] == pytest.approx(np.log2(perplexity), abs=1e-6)


def test_evaluations_are_compared_by_bits(tmp_path):
    import json

    true, offsets = some_jets()
    for number, n_codes in enumerate((64, 8)):
        made = before_and_after(true, true, offsets)
        found = measure(Reconstruction(**(vars(made) | {"n_codes": n_codes})))
        about = {"quantiser": "ema", "context": "jet", "checkpoint": f"runs/{n_codes}"}
        (tmp_path / f"{number}.json").write_text(json.dumps(about | found))
    rows = [row_of(one) for one in read_evaluations(sorted(tmp_path.glob("*.json")))]

    assert [row["tokenizer"] for row in rows] == ["8", "64"]
    assert [row["bits"] for row in rows] == [3, 6]
    assert rows[0]["part_pt"] == 0
