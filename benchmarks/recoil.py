"""What it costs that jets are matched to resonances as they are frozen, from which initial-state radiation pushes them.

    python benchmarks/recoil.py [--n-events 1000]

Frozen events are showered without multiparton interactions and without hadrons, and partons clustered to jets that pass
the preset's selection. Each jet is matched twice: to the frozen resonance and the quarks of its decay, as campaigns do,
and to those of the shower's record, after all recoil.
"""

import argparse
import math
from collections.abc import Iterator

import fastjet
import numpy as np
import pythia8mc

from hepfm.resim.clustering import JetSelection
from hepfm.resim.generator import Beams, pythia_seeds
from hepfm.resim.hard import feed_entries, generate
from hepfm.resim.labels import find_targets
from hepfm.resim.processes import PRESETS, PROCESSES
from hepfm.resim.shower import start_generator

RESONANCES = {6: "top", 23: "Z", 24: "W", 25: "H"}
NEUTRINOS = (12, 14, 16)
RADIUS = 0.8
PARTONS = ("PartonLevel:MPI = off", "HadronLevel:all = off")

Direction = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-events", type=int, default=1000)
    n_events = parser.parse_args().n_events
    for preset, process, resonance, more in (
        ("rs3l", "Hbb", 25, ()),
        ("rs3l", "Hbb", 25, ("SpaceShower:renormMultFac = 0.5",)),
        ("jetclass", "Wqq", 24, ()),
        ("jetclass", "H4q", 25, ()),
        ("jetclass", "Tbqq", 6, ()),
    ):
        compare(preset, process, resonance, more, n_events)


def compare(preset: str, name: str, resonance: int, more: tuple[str, ...], n_events: int) -> None:
    rules, process = PRESETS[preset], PROCESSES[name]
    cut = f"PhaseSpace:pTHatMin = {rules.pt_hat_min:g}"
    beams = Beams()
    events = generate(
        (*process.settings, cut),
        beams,
        5,
        np.arange(n_events),
        lambda some: find_targets(some, process.label).counts == process.n_targets,
    )
    targets = find_targets(events, process.label)
    pythia, feed, _ = start_generator((*PARTONS, *more), beams)
    feed.load(feed_entries(events, pythia_seeds(1, "nominal", events.event_id)))
    n_true = n_lost = n_wrong = 0
    moved = []
    for event in range(n_events):
        if not pythia.next():
            continue
        jets = list(selected_jets(pythia.event, rules.selection))
        frozen = [p for p in pythia.event if p.idAbs() == resonance and p.statusAbs() == 22]
        for row, particle in zip(range(*targets.offsets[event : event + 2]), frozen, strict=False):
            before = [(targets.eta[row], targets.phi[row])]
            before += [d for d in zip(targets.prong_eta[row], targets.prong_phi[row], strict=True) if d[0] == d[0]]
            last = last_copy(pythia.event, particle)
            after = [(last.eta(), last.phi()), *prongs(pythia.event, last)]
            is_true, is_kept = (any(fits(jet, d, rules.match_radius) for jet in jets) for d in (after, before))
            n_true += is_true
            n_lost += is_true and not is_kept
            n_wrong += is_kept and not is_true
            if is_true:
                moved.append(distance(before[0], after[0]))
    share, wrong = n_lost / n_true, n_wrong / (n_true - n_lost + n_wrong)
    print(
        f"{preset} {name} {' '.join(more)}: {n_true} jets of {RESONANCES[resonance]}, "
        f"lost {100 * share:.1f} ± {100 * math.sqrt(share * (1 - share) / n_true):.1f} %, "
        f"of those kept wrong {100 * wrong:.1f} %; moved by {np.median(moved):.2f} (median), "
        f"{np.quantile(moved, 0.9):.2f} (90 %)"
    )


def selected_jets(event: pythia8mc.Event, selection: JetSelection) -> Iterator[Direction]:
    seen = (p for p in event if p.isFinal() and p.idAbs() not in NEUTRINOS and abs(p.eta()) < 5)
    particles = [fastjet.PseudoJet(p.px(), p.py(), p.pz(), p.e()) for p in seen]
    clustered = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS))
    for jet in clustered.inclusive_jets(selection.pt_min):
        if jet.pt() < selection.pt_max and abs(jet.eta()) < selection.abs_eta_max:
            yield jet.eta(), jet.phi()


def last_copy(event: pythia8mc.Event, particle: pythia8mc.Particle) -> pythia8mc.Particle:
    while copies := [event[d] for d in particle.daughterList() if event[d].id() == particle.id()]:
        particle = copies[0]
    return particle


def prongs(event: pythia8mc.Event, resonance: pythia8mc.Particle) -> Iterator[Direction]:
    """Directions of the quarks, gluons and charged leptons of a decay."""
    for daughter in (event[d] for d in resonance.daughterList()):
        if daughter.idAbs() in RESONANCES:
            yield from prongs(event, last_copy(event, daughter))
        elif daughter.idAbs() not in NEUTRINOS:
            yield daughter.eta(), daughter.phi()


def distance(one: Direction, other: Direction) -> float:
    return math.hypot(one[0] - other[0], math.remainder(one[1] - other[1], math.tau))


def fits(jet: Direction, target: list[Direction], match_radius: float) -> bool:
    return distance(jet, target[0]) < match_radius and all(distance(jet, prong) < RADIUS for prong in target[1:])


if __name__ == "__main__":
    main()
