"""Charged particles in the tracker: found or missed, with smeared momentum and impact parameters."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hepfm.resim.detector.compiled import (
    Flags,
    Floats,
    Ints,
    RandomStates,
    as_floats,
    as_ints,
    compiled,
    inlined,
    lower_bound,
)
from hepfm.resim.detector.description import ImpactParameters, Tracker
from hepfm.resim.detector.propagation import Propagated, pseudorapidity
from hepfm.resim.detector.random_numbers import log_normal, normal, uniform
from hepfm.resim.particles import Particles

HADRON, ELECTRON, MUON = 0, 1, 2


@dataclass(frozen=True)
class Tracks:
    """The tracks of some particles; arrays of shape (P,), meaningful where `found`.

    Attributes:
        found: whether the particle has a track.
        pt: measured transverse momentum, in GeV; direction and mass are the particle's.
        resolution: relative error of pt, as the calorimeters are told.
        d0: measured impact parameter, in mm.
        d0err: its error; 0 where it was not smeared.
        dz: measured z at closest approach, in mm.
        dzerr: its error; 0 where it was not smeared.
    """

    found: Flags
    pt: Floats
    resolution: Floats
    d0: Floats
    d0err: Floats
    dz: Floats
    dzerr: Floats


class _TrackerTables(NamedTuple):
    """A tracker as arrays; the first index is HADRON, ELECTRON or MUON, the second the |eta| bin."""

    pt_min: float
    pt_turn_on: float
    keeps_smeared_momentum: bool
    eta_max: Floats  # (eta bins,)
    efficiency: Floats  # (3, eta bins, 3): low, normal and high pt
    pt_high: Floats  # (3,)
    loss_high: Floats  # (3,)
    constant: Floats  # (3, eta bins)
    slope: Floats  # (3, eta bins)


class _ErrorTables(NamedTuple):
    """Impact-parameter errors as arrays."""

    pt_edges: Floats  # (pt bins,)
    eta_edges: Floats  # (eta bins + 1,)
    d0: Floats  # (eta bins, pt bins)
    dz: Floats  # (eta bins, pt bins)


@lru_cache
def _tracker_tables(tracker: Tracker) -> _TrackerTables:
    """Lay a tracker out as arrays."""
    kinds = (tracker.hadron, tracker.electron, tracker.muon)
    return _TrackerTables(
        pt_min=float(tracker.pt_min),
        pt_turn_on=float(tracker.pt_turn_on),
        keeps_smeared_momentum=bool(tracker.keeps_smeared_momentum),
        eta_max=np.array(tracker.eta_max, np.float64),
        efficiency=np.array(
            [np.transpose([k.efficiency_low, k.efficiency, k.efficiency_high]) for k in kinds], np.float64
        ),
        pt_high=np.array([k.pt_high for k in kinds], np.float64),
        loss_high=np.array([k.loss_high for k in kinds], np.float64),
        constant=np.array([k.constant for k in kinds], np.float64),
        slope=np.array([k.slope for k in kinds], np.float64),
    )


@lru_cache
def _error_tables(errors: ImpactParameters | None) -> _ErrorTables:
    """Lay impact-parameter errors out as arrays; no bins at all if there are none."""
    if errors is None:
        return _ErrorTables(np.empty(0), np.empty(0), np.empty((0, 0)), np.empty((0, 0)))
    return _ErrorTables(*(np.array(a, np.float64) for a in (errors.pt_edges, errors.eta_edges, errors.d0, errors.dz)))


@inlined
def _kind(pdg_id: int) -> int:
    """Say which of the three kinds of track a charged particle makes."""
    if abs(pdg_id) == 11:
        return ELECTRON
    if abs(pdg_id) == 13:
        return MUON
    return HADRON


@inlined
def _eta_bin(eta_max: Floats, eta: float) -> int:
    """Find the |eta| bin; len(eta_max) if beyond the last."""
    for i in range(len(eta_max)):
        if abs(eta) <= eta_max[i]:
            return i
    return len(eta_max)


@inlined
def efficiency(tables: _TrackerTables, kind: int, pt: float, eta: float) -> float:
    """Probability that a particle of generated `pt`, meeting the calorimeter at `eta`, has a track."""
    eta_bin = _eta_bin(tables.eta_max, eta)
    if not pt > tables.pt_min or eta_bin == len(tables.eta_max):
        return 0.0
    if pt <= tables.pt_turn_on:
        return float(tables.efficiency[kind, eta_bin, 0])
    if pt <= tables.pt_high[kind]:
        return float(tables.efficiency[kind, eta_bin, 1])
    kept = math.exp(-tables.loss_high[kind] * (pt - tables.pt_high[kind]))
    return float(tables.efficiency[kind, eta_bin, 2]) * kept


@inlined
def resolution(tables: _TrackerTables, kind: int, pt: float, eta: float) -> float:
    """Relative error of pt, at most 1; arguments as of `efficiency`."""
    eta_bin = _eta_bin(tables.eta_max, eta)
    if not pt > tables.pt_min or eta_bin == len(tables.eta_max):
        return 0.0
    constant, slope = tables.constant[kind, eta_bin], tables.slope[kind, eta_bin]
    return min(1.0, math.sqrt(constant**2 + (slope * pt) ** 2))


@inlined
def impact_parameter_errors(tables: _ErrorTables, pt: float, eta: float) -> tuple[float, float]:
    """Errors of d0 and dz in mm, from smeared `pt` and `eta` of the momentum; both 0 outside the table."""
    eta_bin = lower_bound(tables.eta_edges, abs(eta)) - 1
    pt_bin = lower_bound(tables.pt_edges, pt) - 1
    if pt_bin < 0 or eta_bin < 0 or eta_bin >= len(tables.eta_edges) - 1:
        return 0.0, 0.0
    return tables.d0[eta_bin, pt_bin], tables.dz[eta_bin, pt_bin]


@compiled
def _find_tracks(
    offsets: Ints,
    pdg_id: Ints,
    charge: Floats,
    momenta: tuple[Floats, Floats, Floats],
    outer_eta: Floats,
    tables: _TrackerTables,
    errors: _ErrorTables,
    streams: RandomStates,
    found: Flags,
    measured: Floats,
) -> None:
    """Fill `found`, shape (P,), and `measured`, shape (6, P): the fields of Tracks in their order."""
    pt, pt_error, d0, d0_error, dz, dz_error = measured
    for event in range(len(offsets) - 1):
        stream = streams[event]
        for i in range(offsets[event], offsets[event + 1]):
            if charge[i] == 0 or math.isnan(outer_eta[i]):
                continue
            kind = _kind(pdg_id[i])
            true_pt = math.sqrt(momenta[0][i] ** 2 + momenta[1][i] ** 2)
            if uniform(stream) > efficiency(tables, kind, true_pt, outer_eta[i]):
                continue
            found[i] = True
            pt_error[i] = resolution(tables, kind, true_pt, outer_eta[i])
            pt[i] = log_normal(stream, true_pt, pt_error[i] * true_pt)
            d0_error[i], dz_error[i] = impact_parameter_errors(errors, pt[i], pseudorapidity(momenta[2][i], true_pt))
            if d0_error[i] > 0.0:
                d0[i] += d0_error[i] * normal(stream)
            if dz_error[i] > 0.0:
                dz[i] += dz_error[i] * normal(stream)
            if not tables.keeps_smeared_momentum:
                pt[i], pt_error[i] = true_pt, 0.0


def find_tracks(
    particles: Particles,
    surface: Propagated,
    tracker: Tracker,
    impact_parameters: ImpactParameters | None,
    streams: RandomStates,
) -> Tracks:
    """Decide which charged particles have a track, and measure it.

    Args:
        particles: P particles of E events.
        surface: where they meet the calorimeter.
        tracker: efficiencies and momentum resolutions.
        impact_parameters: errors of d0 and dz; None leaves d0 and dz true.
        streams: random streams, shape (E, 4), which move on in place.

    Returns:
        Tracks, of shape (P,).
    """
    p = particles
    found = np.zeros(len(p.px), np.bool_)
    zeros = np.zeros_like(surface.d0)
    measured = np.stack([zeros, zeros, surface.d0, zeros, surface.dz, zeros])
    _find_tracks(
        as_ints(p.offsets),
        as_ints(p.pdg_id),
        as_floats(p.charge),
        tuple(as_floats(a) for a in (p.px, p.py, p.pz)),
        surface.eta,
        _tracker_tables(tracker),
        _error_tables(impact_parameters),
        streams,
        found,
        measured,
    )
    return Tracks(found, *measured)
