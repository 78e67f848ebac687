"""A calorimeter: energies summed in towers, smeared, and shared out between tracks and neutral candidates.

It is run twice: for the electromagnetic calorimeter, then for the hadronic one with the tracks that come out.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hepfm.resim.detector.compiled import Flags, Floats, Ints, RandomStates, compiled, inlined
from hepfm.resim.detector.description import Calorimeter
from hepfm.resim.detector.propagation import Propagated
from hepfm.resim.detector.random_numbers import log_normal, uniform
from hepfm.resim.detector.tracking import Tracks
from hepfm.resim.particles import Particles

# Source: Delphes, SimpleCalorimeter: a smaller share of the energy counts as none.
_FRACTION_MIN = 1e-9
# In towers: how near to an edge rounding errors could put a point on the wrong side.
_EDGE_MARGIN = 1e-9
_N_HINTS = 1024


@dataclass(frozen=True)
class Neutrals:
    """Neutral candidates, massless; those of event `i` are `offsets[i]:offsets[i + 1]`. Energies in GeV."""

    offsets: Ints
    energy: Floats
    eta: Floats
    phi: Floats


class Response(NamedTuple):
    """How well a tower measures: its variance is (squared E + linear) E + constant; and its thresholds."""

    squared: float
    linear: float
    constant: float
    energy_min: float
    significance_min: float


class Tables(NamedTuple):
    """A calorimeter as arrays; row `i` of towers lies between `eta_edges[i]` and `eta_edges[i + 1]`."""

    eta_edges: Floats  # (rows + 1,)
    row_hints: Ints  # rows where equal steps in eta begin: from there, a row is found in few comparisons
    hints_per_eta: float
    half_phi: Ints  # (rows,): towers in half a turn
    first_tower: Ints  # (rows + 1,): number of the first tower of a row; the last entry counts all towers
    variance: Floats  # (rows, 3): coefficients of E^2, E and 1 in sigma^2
    fraction_ids: Ints
    fractions: Floats
    other_fraction: float
    energy_min: float
    significance_min: float


@lru_cache
def calorimeter_tables(calorimeter: Calorimeter) -> Tables:
    """Lay a calorimeter out as arrays."""
    edges = np.array(calorimeter.eta_edges, np.float64)
    variance = np.zeros((len(edges) - 1, 3))
    for row, eta in enumerate(np.abs(0.5 * (edges[:-1] + edges[1:]))):
        for region in calorimeter.resolution:
            if eta <= region.eta_max:
                scale = region.scale + region.curvature * (eta - region.eta_origin) ** 2
                terms = np.array([region.constant, region.stochastic, region.noise])
                variance[row] = (scale * terms) ** 2
                break
    # Hints begin a little early, lest a rounding error skip a row; the last one is for the outermost edge.
    hint_step = (edges[-1] - edges[0]) / _N_HINTS
    hint_eta = edges[0] + hint_step * (np.arange(_N_HINTS + 1) - 0.01)
    return Tables(
        eta_edges=edges,
        row_hints=np.maximum(np.searchsorted(edges, hint_eta) - 1, 0).astype(np.int64),
        hints_per_eta=float(1.0 / hint_step),
        half_phi=np.array(calorimeter.n_phi, np.int64) // 2,
        first_tower=np.concatenate([[0], np.cumsum(calorimeter.n_phi)]).astype(np.int64),
        variance=variance,
        fraction_ids=np.array([pdg_id for pdg_id, _ in calorimeter.fractions], np.int64),
        fractions=np.array([fraction for _, fraction in calorimeter.fractions], np.float64),
        other_fraction=float(calorimeter.other_fraction),
        energy_min=float(calorimeter.energy_min),
        significance_min=float(calorimeter.significance_min),
    )


@inlined
def deposited_fraction(tables: Tables, pdg_id: int) -> float:
    """Share of its energy that a particle leaves in this calorimeter."""
    for i in range(len(tables.fraction_ids)):
        if tables.fraction_ids[i] == abs(pdg_id):
            return tables.fractions[i]
    return tables.other_fraction


@inlined
def response_of(tables: Tables, row: int) -> Response:
    """Describe the towers of a row."""
    variance = tables.variance
    return Response(
        variance[row, 0], variance[row, 1], variance[row, 2], tables.energy_min, tables.significance_min
    )


@inlined
def phi_edge(half_phi: int, i: int) -> float:
    """Edge `i`, counted from phi = 0, of a row that has `half_phi` towers in half a turn."""
    return i * math.pi / half_phi


@inlined
def find_row(tables: Tables, eta: float) -> int:
    """Find the row of towers (lo, hi] at `eta`; -1 if there is none."""
    edges = tables.eta_edges
    if not edges[0] < eta <= edges[-1]:
        return -1
    row = tables.row_hints[int((eta - edges[0]) * tables.hints_per_eta)]
    while edges[row + 1] < eta:
        row += 1
    return row


@inlined
def find_column(half_phi: int, phi: float) -> int:
    """Find the tower (lo, hi] at `phi`, counted from -pi, in a row of `2 half_phi`; -1 if there is none."""
    if not -math.pi < phi <= math.pi:
        return -1
    steps = phi * half_phi / math.pi
    lower = math.floor(steps)
    if not _EDGE_MARGIN < steps - lower < 1.0 - _EDGE_MARGIN:
        # Too near to an edge for this arithmetic: the edges themselves decide.
        lower = math.floor(steps + 0.5)
        if phi <= phi_edge(half_phi, lower):
            lower -= 1
    return lower + half_phi


@inlined
def energy_sigma(response: Response, energy: float) -> float:
    """Energy resolution, in GeV."""
    return math.sqrt((response.squared * energy + response.linear) * energy + response.constant)


@inlined
def measure_tower(response: Response, deposit: float, stream: RandomStates) -> tuple[float, float]:
    """Smear the energy of a tower and apply the thresholds.

    Returns:
        The energy, 0 below threshold, and the resolution at the smeared energy before the thresholds.
    """
    energy = log_normal(stream, deposit, energy_sigma(response, deposit))
    sigma = energy_sigma(response, energy)
    if energy < response.energy_min or energy < response.significance_min * sigma:
        energy = 0.0
    return energy, sigma


@inlined
def track_sigma(response: Response, energy: float, fraction: float, resolution: float) -> float:
    """Error, in GeV, that a track brings into the sum of track energies of a tower."""
    if energy_sigma(response, energy) / energy < resolution:
        return resolution * energy * fraction
    return resolution * energy


@inlined
def share_out(
    response: Response, energy: float, sigma: float, track_energy: float, track_variance: float
) -> tuple[float, float]:
    """Compare a tower with its tracks.

    A significant excess over the tracks becomes a neutral candidate. Otherwise tower and tracks are taken to
    measure the same energy, and the tracks are scaled to the weighted mean of both.

    Returns:
        Energy of the neutral candidate, 0 if there is none, and the factor that scales pt of the tracks.
    """
    neutral = max(energy - track_energy, 0.0)
    significance = neutral / math.sqrt(track_variance + sigma * sigma)
    if neutral > response.energy_min and significance > response.significance_min:
        return neutral, 1.0
    if not track_energy > 0.0:
        return 0.0, 1.0
    track_weight = 1.0 / track_variance if track_variance > 0.0 else 0.0
    tower_weight = 1.0 / (sigma * sigma) if sigma > 0.0 else 0.0
    if track_weight + tower_weight == 0.0:  # neither claims an error, nor has a better idea
        return 0.0, 1.0
    best = (track_weight * track_energy + tower_weight * energy) / (track_weight + tower_weight)
    return 0.0, best / track_energy


@compiled
def _collect(
    tables: Tables,
    offsets: Ints,
    pdg_id: Ints,
    energy: Floats,
    outer: tuple[Floats, Floats],
    found: Flags,
    track_energy: Floats,
    track_resolution: Floats,
    streams: RandomStates,
    track_scale: Floats,
) -> tuple[Ints, Floats, Floats, Floats]:
    """Run the calorimeter over all events.

    Changes `found` (tracks that miss the towers are lost) and `track_scale` (factors for pt) in place.
    """
    n = len(energy)
    most = 0
    for event in range(len(offsets) - 1):
        most = max(most, offsets[event + 1] - offsets[event])
    # Towers are numbered by order of first hit within the event. `hit_of` finds that number from the tower's
    # place in the calorimeter; only the entries that were used are wiped between events.
    hit_of = np.full(tables.first_tower[-1], -1, np.int32)
    rows, columns = np.empty(most, np.int64), np.empty(most, np.int64)
    deposits, sum_tracks, var_tracks = np.empty(most), np.empty(most), np.empty(most)
    scales = np.empty(most)
    hit_of_track = np.empty(most, np.int64)
    neutral_offsets = np.zeros(len(offsets), np.int64)
    neutral_energy, neutral_eta, neutral_phi = np.empty(n), np.empty(n), np.empty(n)
    n_neutral = 0
    for event in range(len(offsets) - 1):
        stream, first = streams[event], offsets[event]
        n_hits = 0
        for i in range(first, offsets[event + 1]):
            hit_of_track[i - first] = -1
            fraction = deposited_fraction(tables, pdg_id[i])
            if math.isnan(outer[0][i]) or not (found[i] or fraction > _FRACTION_MIN):
                continue
            row = find_row(tables, outer[0][i])
            column = find_column(tables.half_phi[row], outer[1][i])
            if row < 0 or column < 0:
                found[i] = False
                continue
            if not fraction > _FRACTION_MIN:
                continue
            tower = tables.first_tower[row] + column
            hit = hit_of[tower]
            if hit < 0:
                hit = n_hits
                n_hits += 1
                hit_of[tower] = hit
                rows[hit], columns[hit] = row, column
                deposits[hit], sum_tracks[hit], var_tracks[hit] = 0.0, 0.0, 0.0
            deposits[hit] += energy[i] * fraction
            if found[i]:
                hit_of_track[i - first] = hit
                sum_tracks[hit] += track_energy[i] * fraction
                var_tracks[hit] += (
                    track_sigma(response_of(tables, row), track_energy[i], fraction, track_resolution[i]) ** 2
                )
        for hit in range(n_hits):
            row, column = rows[hit], columns[hit]
            response = response_of(tables, row)
            hit_of[tables.first_tower[row] + column] = -1
            measured, sigma = measure_tower(response, deposits[hit], stream)
            neutral, scales[hit] = share_out(response, measured, sigma, sum_tracks[hit], var_tracks[hit])
            if neutral > 0.0:
                lo, hi = tables.eta_edges[row], tables.eta_edges[row + 1]
                neutral_eta[n_neutral] = lo + (hi - lo) * uniform(stream)
                half_phi = tables.half_phi[row]
                lo, hi = phi_edge(half_phi, column - half_phi), phi_edge(half_phi, column - half_phi + 1)
                neutral_phi[n_neutral] = lo + (hi - lo) * uniform(stream)
                neutral_energy[n_neutral] = neutral
                n_neutral += 1
        for i in range(first, offsets[event + 1]):
            hit = hit_of_track[i - first]
            if hit >= 0:
                track_scale[i] = scales[hit]
        neutral_offsets[event + 1] = n_neutral
    return neutral_offsets, neutral_energy[:n_neutral], neutral_eta[:n_neutral], neutral_phi[:n_neutral]


def run_calorimeter(
    calorimeter: Calorimeter,
    particles: Particles,
    surface: Propagated,
    tracks: Tracks,
    streams: RandomStates,
) -> tuple[Tracks, Neutrals]:
    """Measure the energy that particles deposit, and combine it with their tracks.

    Args:
        calorimeter: towers and response.
        particles: P particles of E events; all of them deposit energy, with a track or without.
        surface: where they meet the calorimeter.
        tracks: the tracks so far.
        streams: random streams, shape (E, 4), which move on in place.

    Returns:
        The tracks, with pt scaled in towers without a neutral excess, and without those that miss all towers;
        and the neutral candidates.

    Source: Delphes, SimpleCalorimeter; see docs/physics-detector.md#energy-flow.
    """
    p = particles
    found, scale = tracks.found.copy(), np.ones_like(tracks.pt)
    neutrals = _collect(
        calorimeter_tables(calorimeter),
        np.require(p.offsets, np.int64, "CW"),
        np.require(p.pdg_id, np.int64, "CW"),
        np.require(p.energy, np.float64, "CW"),
        (surface.eta, surface.phi),
        found,
        track_energies(p, tracks),
        tracks.resolution,
        streams,
        scale,
    )
    return replace(tracks, found=found, pt=tracks.pt * scale), Neutrals(*neutrals)


def track_energies(particles: Particles, tracks: Tracks) -> Floats:
    """Energies of tracks in GeV, shape (P,): measured pt, with the direction and mass of the particle."""
    p = particles
    pt2 = p.px**2 + p.py**2
    # A track's momentum is the particle's, scaled by the ratio of the transverse parts.
    stretch = np.divide(tracks.pt**2, pt2, out=np.zeros_like(pt2), where=pt2 > 0)
    energies: Floats = np.sqrt(stretch * (pt2 + p.pz**2) + p.mass**2)
    return energies
