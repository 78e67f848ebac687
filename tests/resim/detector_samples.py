"""Particles for the tests of the detector: the reference samples of ../shared, and particle guns."""

import functools
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from particle import Particle

from hepfm.resim.particles import Particles

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "delphes"

needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no Delphes reference samples in {REFERENCE}")


@functools.cache
def arrays(name):
    """All arrays of one reference file."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@functools.cache
def reference_particles(sample):
    """The generated particles of a reference sample, with masses from the Particle Data Group."""
    data = arrays(f"{sample}_input")
    pdg_ids, kinds = np.unique(data["pdgid"], return_inverse=True)
    masses = np.array([(Particle.from_pdgid(i).mass or 0.0) * 1e-3 for i in pdg_ids])
    columns = {name: data[name].astype(np.float64) for name in ("px", "py", "pz", "x", "y", "z")}
    return Particles(
        offsets=data["offsets"].astype(np.int64),
        pdg_id=data["pdgid"],
        charge=data["charge"],
        energy=data["E"].astype(np.float64),
        mass=masses[kinds],
        **columns,
    )


def gun(pdg_id, pt, eta, phi=0.1, *, charge=0, mass=0.0, x=0.0, y=0.0, z=0.0):
    """One particle an event; every argument is a number or an array."""
    columns = np.broadcast_arrays(pdg_id, charge, *(np.asarray(v, float) for v in (pt, eta, phi, mass, x, y, z)))
    pdg_id, charge, pt, eta, phi, mass, x, y, z = (np.atleast_1d(column).copy() for column in columns)
    pz = pt * np.sinh(eta)
    return Particles(
        offsets=np.arange(len(pt) + 1),
        pdg_id=pdg_id.astype(np.int32),
        charge=charge.astype(np.int8),
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pz,
        energy=np.sqrt(pt**2 + pz**2 + mass**2),
        mass=mass,
        x=x,
        y=y,
        z=z,
    )


def one_event(particles):
    """The same particles, all in one event."""
    return replace(particles, offsets=np.array([0, particles.offsets[-1]]))


def events(ragged, which):
    """Some events of particles or candidates, in this order."""
    ranges = [np.arange(ragged.offsets[i], ragged.offsets[i + 1]) for i in which]
    entries = np.concatenate([np.empty(0, np.int64), *ranges])
    columns = {f.name: getattr(ragged, f.name)[entries] for f in fields(ragged) if f.name != "offsets"}
    return type(ragged)(offsets=np.concatenate([[0], np.cumsum(ragged.counts[which])]), **columns)


def seeds(n, start=0):
    """One seed an event."""
    return np.arange(start, start + n, dtype=np.uint64)


def event_numbers(offsets):
    """For every entry, the event it belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
