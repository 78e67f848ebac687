"""Time of each step of `hepfm.resim.clustering.find_jets`, in ms an event.

    python benchmarks/clustering.py [FOLDER]

FOLDER holds candidates in the layout of the Delphes reference, which is no part of the repository (by default it is
looked for in the folder `shared` beside it). The best of several repetitions is shown: a steady state, with everything
compiled.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import fastjet
import numpy as np

from hepfm.resim.clustering import Jets, JetSelection, find_jets
from hepfm.resim.particles import Candidates
from hepfm.resim.substructure import n_subjettiness, soft_drop_mass

REFERENCE = Path(__file__).resolve().parents[1].parent / "shared" / "reference" / "delphes"
REPETITIONS = 15


def read(path: Path) -> Candidates:
    with np.load(path) as stored:
        return Candidates(
            offsets=stored["offsets"].astype(np.int64),
            pdg_id=stored["pid"],
            charge=stored["charge"],
            source=stored["idx"].astype(np.int32),
            px=stored["px"].astype(np.float64),
            py=stored["py"].astype(np.float64),
            pz=stored["pz"].astype(np.float64),
            energy=stored["E"].astype(np.float64),
            **{name: stored[name] for name in ("d0", "d0err", "dz", "dzerr")},
        )


def best_times(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Shortest time of each function in ms. They take turns, so that a busy machine disturbs all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPETITIONS):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * min(values) for name, values in times.items()}


def batch_of(columns: list[np.ndarray], counts: np.ndarray) -> ak.Array:
    return ak.unflatten(ak.zip(dict(zip(("px", "py", "pz", "E"), columns, strict=True))), counts)


def measure(candidates: Candidates, jets: Jets, selection: JetSelection) -> dict[str, float]:
    """Milliseconds an event of each step, and of what the fastjet package offers for two of them."""
    used = candidates.select(np.hypot(candidates.px, candidates.py) > max(selection.candidate_pt_min, 1e-9))
    events = batch_of([used.px, used.py, used.pz, used.energy], used.counts)
    antikt = fastjet.JetDefinition(fastjet.antikt_algorithm, selection.radius)
    clustered = fastjet.ClusterSequence(events, antikt)

    columns = [candidates.px, candidates.py, candidates.pz, candidates.energy]
    momenta = np.column_stack(columns)[jets.candidate]
    cambridge = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
    jet_batch = batch_of(list(momenta.T), np.diff(jets.offsets))
    reclustered = fastjet.ClusterSequence(jet_batch, cambridge)

    radius, zcut, beta = selection.radius, selection.soft_drop_zcut, selection.soft_drop_beta
    times = best_times(
        {
            "anti-kT": lambda: fastjet.ClusterSequence(events, antikt),
            "constituents": lambda: clustered.constituent_index(selection.pt_min),
            "soft drop": lambda: soft_drop_mass(momenta, jets.offsets, radius, zcut, beta),
            "N-subjettiness": lambda: n_subjettiness(momenta, jets.offsets, radius),
            "all of find_jets": lambda: find_jets(candidates, selection),
            "(fastjet's C/A)": lambda: fastjet.ClusterSequence(jet_batch, cambridge),
            "(fastjet's soft drop)": lambda: reclustered.exclusive_jets_softdrop_grooming(),
            "(fastjet's N-subjettiness)": lambda: reclustered.njettiness(),
        }
    )
    steps = ("anti-kT", "constituents", "soft drop", "N-subjettiness")
    times["selection, order, columns"] = times["all of find_jets"] - sum(times[step] for step in steps)
    return {name: milliseconds / candidates.n_events for name, milliseconds in times.items()}


def main(folder: Path) -> None:
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: the samples are no part of the repository. Give their folder.")
    for sample in ("hbb_cms_seed1", "qcd_cms_seed1"):
        candidates = read(folder / f"{sample}.npz")
        for candidate_pt_min in (0.0, 1.0):
            selection = JetSelection(candidate_pt_min=candidate_pt_min, pt_min=400.0, pt_max=np.inf, abs_eta_max=2.5)
            jets = find_jets(candidates, selection)
            print(f"{sample}, candidates above {candidate_pt_min:g} GeV: {candidates.n_events} events,", end=" ")
            print(f"{len(jets) / candidates.n_events:.2f} jets an event,", end=" ")
            print(f"{jets.offsets[-1] / len(jets):.1f} constituents a jet")
            for step, milliseconds in measure(candidates, jets, selection).items():
                print(f"  {step:<26} {milliseconds:.3f} ms/event")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE)
