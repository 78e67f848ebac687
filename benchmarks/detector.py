"""Time the detector on one core, in ms an event, on the reference samples.

usage: python benchmarks/detector.py [--repetitions N] [--reference FOLDER]

FOLDER holds qcd_input.npz and hbb_input.npz, which are no part of the repository. The first run of each detector
compiles and is not counted; the figure is the median of N further runs over all events of the sample.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from particle import Particle

from hepfm.resim.detector import DETECTORS, simulate
from hepfm.resim.particles import Particles

DEFAULT_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "delphes"


def read_particles(path: Path) -> Particles:
    with np.load(path) as file:
        pdg_ids, kinds = np.unique(file["pdgid"], return_inverse=True)
        masses = np.array([(Particle.from_pdgid(pdg_id).mass or 0.0) * 1e-3 for pdg_id in pdg_ids])
        return Particles(
            offsets=file["offsets"].astype(np.int64),
            pdg_id=file["pdgid"],
            charge=file["charge"],
            energy=file["E"].astype(np.float64),
            mass=masses[kinds],
            **{name: file[name].astype(np.float64) for name in ("px", "py", "pz", "x", "y", "z")},
        )


def milliseconds_an_event(particles: Particles, detector: str, repetitions: int) -> float:
    seeds = np.arange(particles.n_events, dtype=np.uint64)
    simulate(particles, detector, seeds)
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        simulate(particles, detector, seeds)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times) / particles.n_events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    arguments = parser.parse_args()
    if not arguments.reference.is_dir():
        sys.exit(f"{arguments.reference} is not there: the samples are no part of the repository. Give --reference.")
    print(f"{'sample':8s}{'particles/event':>16s}" + "".join(f"{name:>12s}" for name in DETECTORS) + "   ms/event")
    for sample in ("hbb", "qcd"):
        particles = read_particles(arguments.reference / f"{sample}_input.npz")
        row = f"{sample:8s}{particles.counts.mean():16.0f}"
        for detector in DETECTORS:
            row += f"{milliseconds_an_event(particles, detector, arguments.repetitions):12.3f}"
        print(row)


if __name__ == "__main__":
    main()
