"""The towers of a calorimeter: where they are, what particles leave in them, and how well they measure."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hepfm.resim.detector.compiled import Floats, Ints, RandomStates, inlined
from hepfm.resim.detector.description import Calorimeter
from hepfm.resim.detector.random_numbers import log_normal

# How near to an edge, in widths of a tower, rounding errors could put a point on the wrong side.
_EDGE_MARGIN = 1e-9
_N_HINTS = 1024


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
            return float(tables.fractions[i])
    return tables.other_fraction


@inlined
def response_of(tables: Tables, row: int) -> Response:
    """Describe the towers of a row."""
    variance = tables.variance
    return Response(variance[row, 0], variance[row, 1], variance[row, 2], tables.energy_min, tables.significance_min)


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
    row = int(tables.row_hints[int((eta - edges[0]) * tables.hints_per_eta)])
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
