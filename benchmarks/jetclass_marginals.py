"""The `jetclass` preset in the `jetclass` detector against the published JetClass set.

    python benchmarks/jetclass_marginals.py [--folder FOLDER] [--n-events 20000] [--workers 2]

Simulates (or reuses, or finishes) a campaign of the ten classes, prints the quantiles of the five marginals as
ratios to the reference with their statistical errors, and draws docs/figures/jetclass_marginals.png and
docs/figures/jetclass_by_class.png. 20,000 events take some two minutes on two free cores.

The reference (`../shared/reference/jetclass_marginals.npz`), which is no part of the repository, holds quantiles over
all ten classes together, equal numbers of jets each; so our jets are weighted until their classes count alike. Its
constituents are the 64 hardest of a jet, and at most 128 of a jet are counted.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import hepfm
from hepfm.resim import plan, run
from hepfm.schema import JET_CLASSES
from hepfm.table import JetTable

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY.parent / "shared" / "reference" / "jetclass_marginals.npz"
FIGURES = REPOSITORY / "docs" / "figures"
PROBABILITIES = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
MAX_CONSTITUENTS, MAX_COUNTED = 64, 128
TOLERANCE = 0.05
N_BOOTSTRAP = 100
Floats = NDArray[np.float64]

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#555555"


@dataclass(frozen=True)
class Marginal:
    """One column: the labels of its axes, and the bins of its histogram."""

    column: str
    axis: str
    density: str
    edges: Floats
    logarithmic_x: bool = False


MARGINALS = (
    Marginal("jet_pt", r"jet $p_\mathrm{T}$ [GeV]", "share of the jets / GeV", np.linspace(500, 1000, 26)),
    Marginal("jet_eta", r"jet $|\eta|$", r"share of the jets / unit of $\eta$", np.linspace(0, 2, 21)),
    Marginal("jet_sdmass", "jet soft-drop mass [GeV]", "share of the jets / GeV", np.linspace(0, 250, 51)),
    Marginal("jet_nparticles", "constituents of a jet", "share of the jets / constituent", np.arange(0.5, 101, 4)),
    Marginal(
        "part_pt",
        r"constituent $p_\mathrm{T}$ [GeV]",
        r"$1/N\;\mathrm{d}N/\mathrm{d}\ln p_\mathrm{T}$",
        np.geomspace(0.5, 400, 35),
        logarithmic_x=True,
    ),
)


@dataclass(frozen=True)
class Sample:
    """Values of a marginal, and which jet each belongs to."""

    values: Floats
    jet: NDArray[np.int64]


def simulate(folder: Path, n_events: int, seed: int, workers: int) -> JetTable:
    """The jets of a campaign; what the folder holds of it is not simulated again."""
    run(plan(n_events, "nominal", "jetclass", detector="jetclass", seed=seed), folder, workers=workers)
    columns = ["jet_label", "truth_pt", "part_px", "part_py", *(m.column for m in MARGINALS[:-1])]
    return hepfm.open(folder).read_table(columns)


def sample(jets: JetTable, column: str) -> Sample:
    rows = np.arange(jets.n_jets)
    if column == "part_pt":
        jet = np.repeat(rows, jets.counts)
        hardest = np.arange(len(jet)) - jets.offsets[jet] < MAX_CONSTITUENTS
        pt = np.hypot(jets.constituents["part_px"], jets.constituents["part_py"]).astype(float)
        return Sample(pt[hardest], jet[hardest])
    values = jets.columns[column].astype(float)
    if column == "jet_eta":
        values = np.abs(values)
    if column == "jet_nparticles":
        # Spread over the integer's unit interval: otherwise a quantile is a whole number, off by up to one half.
        spread = np.random.default_rng(0).uniform(-0.5, 0.5, len(values))
        values = np.minimum(values, MAX_COUNTED) + spread
    return Sample(values, rows)


def read_reference() -> dict[str, Floats]:
    """The quantiles of JetClass: first of all, for without them there is nothing to simulate for."""
    if not REFERENCE.exists():
        sys.exit(f"{REFERENCE} is not there: JetClass's quantiles are no part of the repository.")
    with np.load(REFERENCE) as stored:
        return dict(stored)


def reference_cdf(reference: dict[str, Floats], column: str) -> tuple[Floats, Floats]:
    """Values and cumulative probabilities of a reference marginal, both ascending."""
    values, probability = reference[column].astype(float), reference["probability"].astype(float)
    if column == "jet_eta":
        absolute = np.linspace(0, 2, 401)
        below, above = np.interp(-absolute, values, probability), np.interp(absolute, values, probability)
        return absolute, above - below
    if column == "jet_nparticles":
        # The last quantile at a whole number n is the share of jets of at most n constituents.
        numbers, first = np.unique(np.round(values), return_index=True)
        last = np.append(first[1:], len(values)) - 1
        return numbers + 0.5, 0.5 * (probability[last] + probability[np.minimum(last + 1, len(values) - 1)])
    return values, probability


def class_weights(jets: JetTable) -> Floats:
    """Weights that make the classes count alike."""
    labels = jets.columns["jet_label"]
    return (1 / np.maximum(np.bincount(labels, minlength=len(JET_CLASSES)), 1))[labels]


def weighted_quantiles(values: Floats, weights: Floats, probabilities: Floats) -> Floats:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return np.interp(probabilities, (cumulative - 0.5 * weights[order]) / cumulative[-1], values[order])


def compare(jets: JetTable, reference: dict[str, Floats]) -> dict[str, tuple[Floats, Floats, Floats]]:
    """For each marginal: reference quantiles, ours as a ratio to them, and the ratio's statistical error."""
    weights = class_weights(jets)
    rng = np.random.default_rng(1)
    resampled = [weights * rng.poisson(1.0, jets.n_jets) for _ in range(N_BOOTSTRAP)]
    result = {}
    for marginal in MARGINALS:
        chosen = sample(jets, marginal.column)
        expected = np.interp(PROBABILITIES, *reference_cdf(reference, marginal.column)[::-1])
        ours = weighted_quantiles(chosen.values, weights[chosen.jet], PROBABILITIES)
        scatter = [weighted_quantiles(chosen.values, w[chosen.jet], PROBABILITIES) for w in resampled]
        result[marginal.column] = expected, ours / expected, np.std(scatter, axis=0) / expected
    return result


def print_table(jets: JetTable, result: dict[str, tuple[Floats, Floats, Floats]]) -> None:
    counts = np.bincount(jets.columns["jet_label"], minlength=len(JET_CLASSES))
    print(f"{jets.n_jets} jets:", ", ".join(f"{n} {name}" for name, n in zip(JET_CLASSES, counts, strict=True)))
    print("\n| quantile |" + "".join(f" {p:.0%} |" for p in PROBABILITIES))
    print("|---|" + "---|" * len(PROBABILITIES))
    for column, (expected, ratio, error) in result.items():
        print(f"| `{column}`, JetClass |" + "".join(f" {value:.4g} |" for value in expected))
        cells = (f" {r:.3f} ± {e:.3f} |" for r, e in zip(ratio, error, strict=True))
        print("| hepfm / JetClass |" + "".join(cells))
    worst = max(
        (abs(r - 1), column, p) for column, (_, rs, _) in result.items() for r, p in zip(rs, PROBABILITIES, strict=True)
    )
    print(f"\nlargest deviation {worst[0]:.1%}: {worst[1]} at {worst[2]:.0%}; tolerance {TOLERANCE:.0%}")


def histogram(chosen: Sample, weights: Floats, n_jets: int, edges: Floats) -> tuple[Floats, Floats]:
    """Share of the values in each bin and its statistical error; values of one jet vary together."""
    bins = np.digitize(chosen.values, edges) - 1
    inside = (bins >= 0) & (bins < len(edges) - 1)
    total = weights[chosen.jet].sum()
    share, variance = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for i in range(len(edges) - 1):
        n_in_jet = np.bincount(chosen.jet[inside & (bins == i)], minlength=n_jets)
        share[i] = np.sum(weights * n_in_jet) / total
        variance[i] = np.sum((weights * n_in_jet) ** 2) / total**2
    return share, np.sqrt(variance)


def style() -> None:
    """The look of all figures here."""
    plt.style.use(mplhep.style.CMS)
    plt.rcParams.update({"font.size": 20, "axes.labelsize": 22, "savefig.facecolor": "white"})


def draw_ratio(axis: Axes, x: Floats, ratio: Floats, error: Floats, colour: str, marker: str = "o") -> None:
    """A panel of ratios with the tolerance as a band; where a ratio says nothing, it is left out."""
    axis.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color=GREY, alpha=0.25, lw=0)
    axis.axhline(1, color=GREY, lw=1)
    known = np.isfinite(ratio) & (error < 0.12)
    axis.errorbar(x[known], ratio[known], error[known], fmt=marker, color=colour, ms=5, lw=1.6)
    axis.set(ylim=(0.72, 1.28), yticks=(0.8, 1.0, 1.2))
    axis.tick_params(axis="y", which="minor", left=False, right=False)


def draw_marginals(jets: JetTable, reference: dict[str, Floats], path: Path) -> None:
    """The five marginals over the reference, with the ratio below each."""
    weights = class_weights(jets)
    figure = plt.figure(figsize=(19, 12.5))
    grid = figure.add_gridspec(2, 3, hspace=0.25, wspace=0.3, left=0.065, right=0.985, top=0.965, bottom=0.075)
    for cell, marginal in zip(grid, MARGINALS, strict=False):
        upper, lower = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.1).subplots(sharex=True)
        edges = marginal.edges
        expected = np.diff(np.interp(edges, *reference_cdf(reference, marginal.column)))
        share, error = histogram(sample(jets, marginal.column), weights, jets.n_jets, edges)
        width = np.diff(np.log(edges)) if marginal.logarithmic_x else np.diff(edges)
        centres = np.sqrt(edges[:-1] * edges[1:]) if marginal.logarithmic_x else 0.5 * (edges[:-1] + edges[1:])
        upper.stairs(expected / width, edges, color=GREY, fill=True, alpha=0.35, label="JetClass, published")
        upper.errorbar(centres, share / width, error / width, fmt="o", color=BLUE, ms=5, lw=1.6, label="hepfm")
        with np.errstate(divide="ignore", invalid="ignore"):
            draw_ratio(lower, centres, share / expected, error / expected, BLUE)
        lower.set(xlabel=marginal.axis, xlim=(edges[0], edges[-1]))
        lower.set_ylabel("ratio", loc="center")
        upper.set(ylabel=marginal.density, ylim=(0, 1.15 * np.max(np.maximum(expected, share) / width)))
        if marginal.logarithmic_x:
            lower.set_xscale("log")
    note = figure.add_subplot(grid[5])
    note.axis("off")
    handles, labels = upper.get_legend_handles_labels()
    note.legend(handles, labels, loc="upper left", fontsize=26, frameon=False, bbox_to_anchor=(-0.05, 1.0))
    lines = [
        "ten classes, equal numbers of jets",
        r"anti-$k_\mathrm{T}$ $R=0.8$, $|\eta|<2$,",
        r"$500<p_\mathrm{T}<1000$ GeV",
        f"hepfm: {jets.n_jets:,} jets, Pythia 8,",
        "    preset and detector `jetclass`",
        "JetClass: MadGraph, Pythia 8, Delphes",
        r"ratio: hepfm / JetClass, band $\pm5$ %",
    ]
    note.text(0.0, 0.68, "\n".join(lines), va="top", fontsize=20, linespacing=1.5, transform=note.transAxes)
    figure.savefig(path, dpi=72)
    plt.close(figure)


def draw_classes(jets: JetTable, path: Path) -> None:
    """What each class contributes to the soft-drop mass and to the number of constituents."""
    shown = {
        "QCD": ("black", "-"),
        "Hbb": (BLUE, "-"),
        "Hgg": (BLUE, "--"),
        "H4q": (ORANGE, "-"),
        "Hqql": (ORANGE, "--"),
        "Wqq": (GREEN, "-"),
        "Zqq": (GREEN, "--"),
        "Tbqq": (RED, "-"),
        "Tbl": (RED, "--"),
    }
    bins = {"jet_sdmass": np.arange(0, 251, 10.0), "jet_nparticles": np.arange(0.5, 101, 5)}
    labels = {m.column: m.axis for m in MARGINALS}
    figure, axes = plt.subplots(1, 2, figsize=(17, 7), layout="constrained")
    for axis, (column, edges) in zip(axes, bins.items(), strict=True):
        for name, (colour, line) in shown.items():
            values = jets.columns[column][jets.columns["jet_label"] == JET_CLASSES.index(name)]
            share = np.histogram(values, edges)[0] / len(values)
            axis.stairs(share / np.diff(edges), edges, color=colour, ls=line, lw=2.5, label=name)
        axis.set(xlabel=labels[column], xlim=edges[[0, -1]])
        axis.set_ylim(0, 1.06 * axis.dataLim.ymax)
    axes[0].set_ylabel("share of the class / GeV")
    axes[1].set_ylabel("share of the class / constituent")
    axes[1].legend(fontsize=20)
    figure.savefig(path, dpi=72, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="campaign folder to reuse or make; by default a temporary one")
    parser.add_argument("--n-events", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    reference = read_reference()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "campaign"
        jets = simulate(folder, options.n_events, options.seed, options.workers)
    print_table(jets, compare(jets, reference))
    mpl.use("Agg")
    style()
    FIGURES.mkdir(parents=True, exist_ok=True)
    draw_marginals(jets, reference, FIGURES / "jetclass_marginals.png")
    draw_classes(jets, FIGURES / "jetclass_by_class.png")


if __name__ == "__main__":
    main()
