"""Why the published soft-drop masses of JetClass are what they are: decays in flight, and tracks of no pt.

    python benchmarks/jetclass_soft_drop_mass.py [--n-events 20000] [--workers 2]

Simulates the same frozen events of the ten classes in three ways and draws their soft-drop masses over JetClass's,
with ratios, as docs/figures/jetclass_soft_drop_mass.png:

1. K0S and strange baryons reach the detector undecayed, as a detector simulation that decays them would want;
2. they decay in Pythia, as in JetClass and in the `jetclass` preset;
3. as 2., with the mass that Delphes stored: tracks whose energy its calorimeter thresholds set to zero keep their
   mass, sit at y = 0, phi = 0 for a jet finder, and add their energy to jets that are within 0.8 of that point.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jetclass_marginals import BLUE, FIGURES, GREY, ORANGE, RED, draw_ratio, read_reference, style, weighted_quantiles
from numpy.typing import NDArray

from hepfm.resim import Campaign, plan
from hepfm.resim.clustering import Jets, find_jets
from hepfm.resim.detector.simulation import reconstruct
from hepfm.resim.frozen import hard_events
from hepfm.resim.generator import detector_seeds
from hepfm.resim.labels import find_targets, match_jets
from hepfm.resim.particles import Candidates
from hepfm.resim.shower import shower
from hepfm.resim.substructure import soft_drop_mass

Floats = NDArray[np.float64]
CHUNK = 250
WAYS = {
    "K$^0_\\mathrm{S}$ and hyperons stable": (ORANGE, "s"),
    "they decay: `jetclass` preset": (BLUE, "o"),
    "they decay, zero-$p_\\mathrm{T}$ tracks kept": (RED, "^"),
}


def masses(campaign: Campaign, folder: str, process: int, start: int) -> tuple[Floats, Floats]:
    """Soft-drop masses of the jets of some events, as hepfm and as Delphes has them."""
    source = campaign.processes[process]
    events = hard_events(campaign, folder, process, start, min(start + CHUNK, campaign.events_of(process)))
    showered = shower(events, source.shower_settings, campaign.seed, "nominal")
    events = events.take(showered.rows)
    seeds = detector_seeds(campaign.seed, "nominal", events.event_id)
    candidates = reconstruct(showered.particles, campaign.detector, seeds, keep_zero_pt=True)
    jets = find_jets(candidates, campaign.selection)
    targets = find_targets(events, source.label)
    matched, _ = match_jets(jets, targets, campaign.selection.radius, campaign.match_radius)
    keep = np.zeros(len(jets), bool)
    keep[matched] = True
    jets = jets.select(keep)
    return jets.columns["jet_sdmass"].astype(float), stored_mass(jets, candidates, campaign)


def stored_mass(jets: Jets, candidates: Candidates, campaign: Campaign) -> Floats:
    """Soft-drop mass with the event's candidates of no pt, where they fall into the jet."""
    no_pt = np.hypot(candidates.px, candidates.py) == 0
    event = np.repeat(np.arange(candidates.n_events), candidates.counts)
    at_rest = np.bincount(event[no_pt], candidates.energy[no_pt], candidates.n_events)[jets.event]
    caught = np.hypot(jets.columns["jet_eta"], jets.columns["jet_phi"]) < campaign.selection.radius
    momenta = [
        np.column_stack([getattr(candidates, name)[jets.candidate] for name in ("px", "py", "pz", "energy")])[a:b]
        for a, b in zip(jets.offsets[:-1], jets.offsets[1:], strict=True)
    ]
    # They have one direction, so that clustering joins them before anything else: one particle stands for all.
    with_rest = [
        np.vstack([m, [0.0, 0.0, 0.0, e]]) if c and e > 0 else m
        for m, e, c in zip(momenta, at_rest, caught, strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(m) for m in with_rest])])
    selection = campaign.selection
    return soft_drop_mass(
        np.concatenate([np.empty((0, 4)), *with_rest]),
        offsets,
        selection.radius,
        selection.soft_drop_zcut,
        selection.soft_drop_beta,
    )


def simulate(campaign: Campaign, folder: str, workers: int) -> tuple[Floats, Floats, Floats]:
    """Both masses of all jets, and weights that make the classes count alike."""
    tasks = [
        (campaign, folder, process, start)
        for process in range(len(campaign.processes))
        for start in range(0, campaign.events_of(process), CHUNK)
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(masses, *zip(*tasks, strict=True)))
    process = np.concatenate([np.full(len(r[0]), t[2]) for r, t in zip(results, tasks, strict=True)])
    weights = (1 / np.bincount(process))[process]
    return np.concatenate([r[0] for r in results]), np.concatenate([r[1] for r in results]), weights


def draw(samples: dict[str, tuple[Floats, Floats]], values: Floats, probability: Floats, path: Path) -> None:
    """Masses (values, weights) over the reference's quantiles, and their ratios."""
    edges = np.concatenate([np.arange(0, 200, 10), np.arange(200, 301, 25)])
    width, centres = np.diff(edges), 0.5 * (edges[:-1] + edges[1:])
    expected = np.diff(np.interp(edges, values, probability))
    figure, axes = plt.subplots(
        4, 1, figsize=(11, 13), height_ratios=(3.2, 1, 1, 1), sharex=True, gridspec_kw={"hspace": 0.09}
    )
    axes[0].stairs(expected / width, edges, color=GREY, fill=True, alpha=0.35, label="JetClass, published")
    for axis, (name, (mass, weights)) in zip(axes[1:], samples.items(), strict=True):
        colour, marker = WAYS[name]
        total = weights.sum()
        share = np.histogram(mass, edges, weights=weights)[0] / total
        error = np.sqrt(np.histogram(mass, edges, weights=weights**2)[0]) / total
        axes[0].stairs(share / width, edges, color=colour, lw=2.2, label=f"hepfm, {name}")
        draw_ratio(axis, centres, share / expected, error / expected, colour, marker)
        axis.set_ylabel("ratio", loc="center")
    axes[0].set(ylabel="share of the jets / GeV", xlim=(0, 300), ylim=(0, 0.021))
    axes[0].legend(loc="upper right", fontsize=18)
    axes[-1].set_xlabel("jet soft-drop mass [GeV]")
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-events", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    reference = read_reference()
    values, probability = reference["jet_sdmass"].astype(float), reference["probability"].astype(float)
    decayed = plan(options.n_events, "nominal", "jetclass", detector="jetclass")
    stable = replace(decayed, processes=tuple(replace(p, shower_settings=()) for p in decayed.processes))
    with tempfile.TemporaryDirectory() as folder:
        as_stable, _, weights_stable = simulate(stable, folder, options.workers)
        as_decayed, as_stored, weights = simulate(decayed, folder, options.workers)
    samples = dict(zip(WAYS, ((as_stable, weights_stable), (as_decayed, weights), (as_stored, weights)), strict=True))
    wanted = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
    expected = np.interp(wanted, probability, values)
    print(
        f"{len(as_decayed)} jets; the zero-pt tracks change {np.mean(np.abs(as_stored - as_decayed) > 1):.1%} by 1 GeV"
    )
    print("| soft-drop mass, ratio to JetClass |" + "".join(f" {p:.0%} |" for p in wanted))
    print("|---|" + "---|" * len(wanted))
    for name, (mass, w) in samples.items():
        ratios = weighted_quantiles(mass, w, wanted) / expected
        print(f"| {name} |" + "".join(f" {ratio:.3f} |" for ratio in ratios))
    mpl.use("Agg")
    style()
    FIGURES.mkdir(parents=True, exist_ok=True)
    draw(samples, values, probability, FIGURES / "jetclass_soft_drop_mass.png")


if __name__ == "__main__":
    main()
