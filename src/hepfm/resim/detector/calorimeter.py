"""A calorimeter: energies summed in towers, smeared, and shared out between tracks and neutral candidates.

It is run twice: for the electromagnetic calorimeter, then for the hadronic one with the tracks that come out.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from hepfm.resim.detector.compiled import Flags, Floats, Ints, RandomStates, as_floats, as_ints, compiled, inlined
from hepfm.resim.detector.description import Calorimeter
from hepfm.resim.detector.propagation import Propagated
from hepfm.resim.detector.random_numbers import uniform
from hepfm.resim.detector.towers import (
    Response,
    Tables,
    calorimeter_tables,
    deposited_fraction,
    energy_sigma,
    find_column,
    find_row,
    measure_tower,
    phi_edge,
    response_of,
)
from hepfm.resim.detector.tracking import Tracks
from hepfm.resim.particles import Particles

# Source: Delphes, SimpleCalorimeter: a smaller share of the energy counts as none.
_FRACTION_MIN = 1e-9


@dataclass(frozen=True)
class Neutrals:
    """Neutral candidates, massless; those of event `i` are `offsets[i]:offsets[i + 1]`. Energies in GeV."""

    offsets: Ints
    energy: Floats
    eta: Floats
    phi: Floats


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
        as_ints(p.offsets),
        as_ints(p.pdg_id),
        as_floats(p.energy),
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
