"""The ideal detector: every visible particle as generated."""

import numpy as np

from hepfm.kinematics import pt_eta_phi
from hepfm.resim.detector.propagation import Propagated
from hepfm.resim.particles import Candidates, Particles

# Neutrinos, and the neutral dark particles to which the CMS card's calorimeters are blind.
_INVISIBLE = (12, 14, 16, 1000022, 1000023, 1000025, 1000035, 1000045)
_PHOTON, _NEUTRAL_HADRON = 22, 0


def visible_particles(particles: Particles, surface: Propagated, eta_max: float) -> Candidates:
    """Turn visible particles with |eta| < `eta_max` and pt > 0 into candidates.

    Args:
        particles: P particles of E events.
        surface: their closest approaches to the beam axis, which become d0 and dz with no errors.
        eta_max: pseudorapidity, of the momentum, up to which particles are kept.

    Returns:
        Candidates in the order of the particles, with their generated four-momenta.
    """
    p = particles
    pt, eta, _ = pt_eta_phi(p.px, p.py, p.pz)
    visible = (pt > 0) & (np.abs(eta) < eta_max) & ~np.isin(np.abs(p.pdg_id), _INVISIBLE)
    charged = p.charge != 0
    index_in_event = np.arange(len(pt)) - np.repeat(p.offsets[:-1], p.counts)
    no_error = np.zeros(len(pt), np.float32)
    candidates = Candidates(
        offsets=np.asarray(p.offsets, np.int64),
        pdg_id=np.where(charged | (p.pdg_id == _PHOTON), p.pdg_id, _NEUTRAL_HADRON).astype(np.int32),
        charge=np.asarray(p.charge, np.int8),
        source=np.where(charged, index_in_event, -1).astype(np.int32),
        px=p.px,
        py=p.py,
        pz=p.pz,
        energy=p.energy,
        d0=surface.d0.astype(np.float32),
        d0err=no_error,
        dz=surface.dz.astype(np.float32),
        dzerr=no_error,
    )
    return candidates.select(visible)
