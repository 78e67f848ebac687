"""The whole simulation against real Delphes, judged by the script that comes with the reference samples."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from detector_samples import REFERENCE, needs_reference, reference_particles, seeds

from hepfm.resim.detector import DETECTORS
from hepfm.resim.detector.simulation import reconstruct

# The reference was made with Delphes' own CMS card, which leaves impact parameters true.
CARDS = {
    "cms": dataclasses.replace(DETECTORS["cms"], impact_parameters=None),
    "jetclass": DETECTORS["jetclass"],
}

pytestmark = needs_reference


def verdict(sample, card, folder, scale=1.0):
    """The last line of compare.py: PASS or FAIL, and the worst deviation."""
    particles = reference_particles(sample)
    out = reconstruct(particles, CARDS[card], seeds(particles.n_events, 4000), keep_zero_pt=True)
    np.savez(
        folder / "ours.npz",
        offsets=out.offsets,
        px=scale * out.px,
        py=scale * out.py,
        pz=scale * out.pz,
        E=scale * out.energy,
        charge=out.charge,
        pid=out.pdg_id,
        kind=np.where(out.source >= 0, 0, np.where(out.pdg_id == 22, 1, 2)),
        idx=out.source,
        **{name: getattr(out, name) for name in ("d0", "d0err", "dz", "dzerr")},
    )
    command = [sys.executable, "compare.py", folder / "ours.npz", f"{sample}_{card}_seed1.npz"]
    result = subprocess.run(command, cwd=REFERENCE, capture_output=True, text=True)
    return result.stdout.splitlines()[-1] if result.stdout else result.stderr


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_candidates_and_jets_are_distributed_like_those_of_delphes(sample, card, tmp_path):
    assert verdict(sample, card, tmp_path).startswith("PASS")


@pytest.mark.parametrize("card", CARDS)
def test_the_comparison_notices_energies_off_by_two_percent(card, tmp_path):
    assert verdict("qcd", card, tmp_path, scale=1.02).startswith("FAIL")
