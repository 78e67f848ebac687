"""The detector as a whole: stable particles in, particle-flow candidates out."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.resim.detector.calorimeter import Neutrals, run_calorimeter, track_energies
from hepfm.resim.detector.cards import get_detector
from hepfm.resim.detector.compiled import Floats, Ints
from hepfm.resim.detector.description import Detector
from hepfm.resim.detector.particle_level import visible_particles
from hepfm.resim.detector.propagation import Propagated, propagate
from hepfm.resim.detector.random_numbers import random_states
from hepfm.resim.detector.tracking import Tracks, find_tracks
from hepfm.resim.particles import Candidates, Particles

PHOTON, NEUTRAL_HADRON = 22, 0


def simulate(particles: Particles, detector: Detector | str, seeds: NDArray[np.uint64]) -> Candidates:
    """Simulate what a detector makes of stable particles.

    An event's candidates depend on its particles and its seed alone, to the last bit.

    Args:
        particles: stable particles of E events, neutrinos included.
        detector: a detector, or the name of one in DETECTORS.
        seeds: one 64-bit seed an event, shape (E,).

    Returns:
        Candidates of E events: first tracks in the order of their particles, then photons, then neutral
        hadrons. Tracks that the calorimeters scaled to pt = 0 are left out.

    Raises:
        InputError: the detector's name is unknown, or there is not one seed an event.
    """
    return reconstruct(particles, detector, seeds)


def reconstruct(
    particles: Particles, detector: Detector | str, seeds: NDArray[np.uint64], *, keep_zero_pt: bool = False
) -> Candidates:
    """Do what `simulate` does, if asked with the tracks of pt = 0 that Delphes keeps."""
    if isinstance(detector, str):
        detector = get_detector(detector)
    if np.shape(seeds) != (particles.n_events,):
        msg = f"{particles.n_events} events need seeds of shape ({particles.n_events},), not {np.shape(seeds)}"
        raise InputError(msg)
    surface = propagate(particles, detector.solenoid)
    if detector.tracker is None or detector.ecal is None or detector.hcal is None:
        return visible_particles(particles, surface, detector.eta_max)
    streams = random_states(np.require(seeds, np.uint64, ["C", "W"]))
    tracks = find_tracks(particles, surface, detector.tracker, detector.impact_parameters, streams)
    tracks, photons = run_calorimeter(detector.ecal, particles, surface, tracks, streams)
    tracks, hadrons = run_calorimeter(detector.hcal, particles, surface, tracks, streams)
    if not keep_zero_pt:
        tracks = replace(tracks, found=tracks.found & (tracks.pt > 0))
    return _assemble(particles, surface, tracks, photons, hadrons)


def _assemble(
    particles: Particles, surface: Propagated, tracks: Tracks, photons: Neutrals, hadrons: Neutrals
) -> Candidates:
    """Lay tracks, photons and neutral hadrons out event by event, in this order."""
    found = np.flatnonzero(tracks.found)
    track_offsets = np.searchsorted(found, particles.offsets)
    offsets = track_offsets + photons.offsets + hadrons.offsets
    # Where the groups of an event begin: its candidates, shifted by the groups before.
    n_tracks, n_photons = np.diff(track_offsets), np.diff(photons.offsets)
    groups = (
        _places(track_offsets, offsets[:-1]),
        _places(photons.offsets, offsets[:-1] + n_tracks),
        _places(hadrons.offsets, offsets[:-1] + n_tracks + n_photons),
    )

    def merge(dtype: type[np.generic], *values: NDArray[Any] | int) -> NDArray[Any]:
        merged = np.zeros(offsets[-1], dtype)
        for places, column in zip(groups, values, strict=False):
            merged[places] = column
        return merged

    pt = tracks.pt[found]
    cot_theta = particles.pz[found] / np.hypot(particles.px[found], particles.py[found])
    photon_p, hadron_p = _momenta(photons), _momenta(hadrons)
    return Candidates(
        offsets=offsets,
        pdg_id=merge(np.int32, particles.pdg_id[found], PHOTON, NEUTRAL_HADRON),
        charge=merge(np.int8, particles.charge[found]),
        source=merge(np.int32, found - np.repeat(particles.offsets[:-1], n_tracks), -1, -1),
        px=merge(np.float64, pt * surface.ux[found], photon_p[0], hadron_p[0]),
        py=merge(np.float64, pt * surface.uy[found], photon_p[1], hadron_p[1]),
        pz=merge(np.float64, pt * cot_theta, photon_p[2], hadron_p[2]),
        energy=merge(np.float64, track_energies(particles, tracks)[found], photons.energy, hadrons.energy),
        d0=merge(np.float32, tracks.d0[found]),
        d0err=merge(np.float32, tracks.d0err[found]),
        dz=merge(np.float32, tracks.dz[found]),
        dzerr=merge(np.float32, tracks.dzerr[found]),
    )


def _places(offsets: Ints, starts: Ints) -> Ints:
    """Give the entries of event `i`, `offsets[i]:offsets[i + 1]`, the places from `starts[i]` on."""
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], np.diff(offsets))


def _momenta(neutrals: Neutrals) -> tuple[Floats, Floats, Floats]:
    """Momenta (px, py, pz) of neutral candidates, in GeV."""
    pt = neutrals.energy / np.cosh(neutrals.eta)
    return pt * np.cos(neutrals.phi), pt * np.sin(neutrals.phi), pt * np.sinh(neutrals.eta)
