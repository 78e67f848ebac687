"""Distributions: what is counted, and what their errors promise."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import hepfm
from hepfm.cards.distributions import draw_distribution, drawn_classes
from hepfm.cards.histograms import ALL, Histograms
from hepfm.cards.observables import OBSERVABLES
from hepfm.cards.survey import fill_histograms, survey
from hepfm.dataset import Dataset
from hepfm.formats.jet_file import JetFile
from hepfm.schema import COLUMNS
from hepfm.table import JetTable

BY_NAME = {o.name: o for o in OBSERVABLES}


@dataclass(frozen=True, kw_only=True)
class Jets(JetFile):
    """A table in memory as a file."""

    table: JetTable

    def read(self, names, start, stop):
        return self.table.slice(start, stop).only(names)


def jets(n_jets: int, *, seed: int = 0, labels=(0,), variations=("nominal",), n_constituents: int = 20, **columns):
    """A dataset of random jets; every variation has as many, and `columns` replace or (None) remove some."""
    draw = np.random.default_rng(seed)
    n_rows = n_jets * len(variations)
    counts = draw.integers(1, 2 * n_constituents, n_rows)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    jet = {
        "event_id": np.tile(np.arange(n_jets), len(variations)),
        "jet_index": np.zeros(n_rows, np.int8),
        "variation": np.repeat(variations, n_jets),
        "jet_label": draw.choice(labels, n_rows).astype(np.int16),
        "jet_pt": (400 + draw.exponential(100, n_rows)).astype(np.float32),
        "jet_eta": draw.normal(0, 0.5, n_rows).astype(np.float32),
        "jet_phi": draw.uniform(-np.pi, np.pi, n_rows).astype(np.float32),
        "jet_sdmass": draw.gamma(4, 30, n_rows).astype(np.float32),
        "jet_nparticles": counts.astype(np.int32),
        **{f"jet_tau{i}": draw.uniform(0.1, 0.3, n_rows).astype(np.float32) for i in (1, 2, 3)},
    }
    pt, phi = draw.pareto(2, offsets[-1]) + 1, draw.uniform(-np.pi, np.pi, offsets[-1])
    part = {
        "part_px": (pt * np.cos(phi)).astype(np.float32),
        "part_py": (pt * np.sin(phi)).astype(np.float32),
        "part_pz": draw.normal(0, 10, offsets[-1]).astype(np.float32),
        "part_deta": draw.normal(0, 0.2, offsets[-1]).astype(np.float32),
        "part_dphi": draw.normal(0, 0.2, offsets[-1]).astype(np.float32),
        "part_d0val": draw.normal(0, 0.1, offsets[-1]).astype(np.float32),
    }
    kept = {name: values for name, values in (jet | part | columns).items() if values is not None}
    ragged = {name: values for name, values in kept.items() if name.startswith("part_")}
    table = JetTable({n: v for n, v in kept.items() if n not in ragged}, offsets, ragged)
    has_variations = "variation" in kept
    file = Jets(
        "memory",
        n_rows,
        tuple(COLUMNS[name] for name in kept),
        variations=tuple(variations) if has_variations else (),
        table=table,
    )
    return Dataset([file], "memory")


def filled(dataset: Dataset) -> Histograms:
    return fill_histograms(dataset)


def test_every_jet_of_a_campaign_is_counted_once_in_its_class_and_variation(small_campaign):
    data = hepfm.open(small_campaign[1])
    histograms = filled(data)
    table = data.read_table(["jet_label", "variation", "jet_sdmass"]).columns
    for number, name in enumerate(histograms.classes[:-1]):
        for variation in data.variations:
            mine = (table["jet_label"] == number) & (table["variation"] == variation)
            axis = histograms["soft-drop-mass"].axes[2]
            expected, _ = np.histogram(table["jet_sdmass"][mine], axis.edges)
            found = histograms["soft-drop-mass"][name, variation, :].values()
            assert found.tolist() == expected.tolist()
    assert histograms.n_jets.sum() == len(data)


def test_sizes_of_tables_do_not_matter(monkeypatch):
    data = jets(500, labels=(0, 1), variations=("a", "b"))
    whole = filled(data)
    monkeypatch.setattr("hepfm.cards.survey._TABLE_JETS", 7)
    pieces = filled(data)
    for o in OBSERVABLES:
        assert np.array_equal(whole[o.name].view(flow=True), pieces[o.name].view(flow=True))


@pytest.mark.parametrize("name", ["soft-drop-mass", "constituent-pt"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_errors_are_how_much_the_mean_varies_from_sample_to_sample(name, is_weighted):
    """Against many samples: constituents of a jet come together, so that counting each by itself would be wrong."""
    observable, means, errors = BY_NAME[name], [], []
    for seed in range(200):
        weight = np.random.default_rng(1000 + seed).exponential(1, 60) if is_weighted else np.ones(60)
        # All constituents of a jet have the same pt: the strongest dependence there is.
        draw = np.random.default_rng(seed)
        counts = np.random.default_rng(seed).integers(1, 40, 60)
        pt = np.repeat(draw.choice([2.0, 30.0], 60), counts).astype(np.float32)
        data = jets(60, seed=seed, weight=weight, part_px=pt, part_py=np.zeros_like(pt))
        histograms = filled(data)
        edges = None if observable.of_constituents else np.asarray(histograms[name].axes[2].edges)[::16]
        density = histograms.density(observable, "QCD", "nominal", edges)
        means.append(density.mean)
        errors.append(density.error)
    true, claimed = np.std(means, axis=0), np.mean(errors, axis=0)
    known = np.mean(means, axis=0) > 0.05
    assert known.sum() >= 2
    np.testing.assert_allclose(claimed[known], true[known], rtol=0.2)


def test_merged_bins_have_the_error_of_jets_counted_in_wide_ones():
    data = jets(300)
    histograms = filled(data)
    o = BY_NAME["soft-drop-mass"]
    own = np.asarray(histograms[o.name].axes[2].edges)
    wide = histograms.density(o, "QCD", "nominal", own[[0, 40, 80]])
    mass = data.read_table(["jet_sdmass"]).columns["jet_sdmass"]
    share = np.array([np.mean((mass >= low) & (mass < high)) for low, high in ((0, 100), (100, 200))])
    np.testing.assert_allclose(wide.mean, share)
    # Of a share: the square root of p (1 - p) / (n - 1).
    np.testing.assert_allclose(wide.error, np.sqrt(share * (1 - share) / (len(mass) - 1)))


def test_a_single_jet_claims_no_error():
    density = filled(jets(1)).density(BY_NAME["jet-pt"], "QCD", "nominal")
    assert np.isnan(density.error).all()
    assert density.mean.sum() == 1


def test_tau_ratios_and_impact_parameters_without_a_value_are_left_out():
    data = jets(40, jet_tau1=np.zeros(40, np.float32), jet_tau2=np.zeros(40, np.float32))
    assert filled(data)["tau21"].sum(flow=True).value == 0
    n = data.read_table(["part_d0val"]).n_constituents
    assert filled(jets(40, part_d0val=np.zeros(n, np.float32)))["constituent-d0"].sum(flow=True).value == 0


def test_observables_whose_columns_are_missing_are_left_out_and_named():
    histograms = filled(jets(20, jet_tau3=None, part_d0val=None))
    assert {o.name for o in histograms.missing} == {"tau32", "constituent-d0"}


def test_jets_without_a_label_have_a_row_of_their_own():
    histograms = filled(jets(50, labels=(-1, 1)))
    counts = dict(zip(histograms.classes, histograms.n_jets.sum(axis=1).tolist(), strict=True))
    assert counts["no label"] > 0
    assert counts["no label"] + counts["Hbb"] == 50
    assert filled(jets(50, jet_label=None)).classes == (ALL,)


CASES = {
    "one variation": jets(200, labels=(0, 1)),
    "three variations": jets(200, labels=(0, 1), variations=("a", "b", "c")),
    "no labels, no variations": jets(60, jet_label=None, variation=None),
    "three jets": jets(3, labels=(0, 1), variations=("a", "b")),
    "a single jet": jets(1),
    "ten classes, twenty variations": jets(300, labels=range(10), variations=[f"v{i}" for i in range(20)]),
    "no spread": jets(30, variations=("a", "b"), jet_pt=np.full(60, 500, np.float32)),
    "weights of both signs": jets(50, variations=("a", "b"), weight=np.tile([1.0, -0.5, 2.0, 1.0], 25)),
    "no weight at all": jets(20, weight=np.zeros(20)),
    "values out of all bins": jets(20, jet_pt=np.full(20, 1e6, np.float32)),
}


@pytest.mark.parametrize("case", CASES)
def test_anything_is_drawn_without_a_warning(case, tmp_path):
    histograms = filled(CASES[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for o in (BY_NAME["jet-pt"], BY_NAME["n-constituents"], BY_NAME["constituent-pt"]):
            draw_distribution(histograms, o).savefig(tmp_path / "figure.png", dpi=20)


def test_each_class_has_a_panel_with_ratios_and_one_variation_has_none():
    several = draw_distribution(filled(CASES["three variations"]), BY_NAME["jet-pt"])
    single = draw_distribution(filled(CASES["one variation"]), BY_NAME["jet-pt"])
    assert [a.get_title(loc="left") for a in several.axes] == ["QCD", "", "Hbb", ""]
    assert [a.get_ylabel() for a in several.axes][1] == "ratio"
    assert [t.get_text() for t in several.legends[0].get_texts()] == ["a", "b", "c"]
    assert len(single.axes) == 1
    assert [t.get_text() for t in single.legends[0].get_texts()] == ["QCD", "Hbb"]


def test_ratios_are_those_of_the_means():
    histograms = filled(CASES["three variations"])
    o = BY_NAME["n-constituents"]
    figure = draw_distribution(histograms, o)
    edges = histograms.edges(o, drawn_classes(histograms))
    first, second = (histograms.density(o, "QCD", v, edges).mean for v in ("a", "b"))
    # The band comes first, then a line a variation.
    drawn = figure.axes[1].patches[1].get_data().values
    filled_bins = (first > 0) & (second > 0)
    np.testing.assert_allclose(drawn[filled_bins], (second / first)[filled_bins])
    assert np.isnan(drawn[~filled_bins]).all()


def test_classes_of_few_jets_are_drawn_together():
    histograms = filled(jets(60, labels=range(10)))
    assert drawn_classes(histograms) == (ALL,)
    density = histograms.density(BY_NAME["jet-pt"], ALL, "nominal")
    np.testing.assert_allclose(density.mean.sum(), 1)


def test_memory_does_not_grow_with_the_number_of_jets(monkeypatch):
    monkeypatch.setattr("hepfm.cards.survey._TABLE_JETS", 100)
    data, seen = jets(1000, variations=("a", "b")), []
    add = Histograms.add
    monkeypatch.setattr(Histograms, "add", lambda self, table: (seen.append(table.n_jets), add(self, table)))
    survey(data, 5)
    assert max(seen) == 100
    assert sum(seen) == 2000
