"""The specification of the detector in plain NumPy: slow, obvious, and written without looking at the code."""

import math

import numpy as np

from hepfm.resim.detector import DETECTORS


def sigma_twin(name, eta, energy):
    """Energy resolution as DETECTOR.md writes it."""
    eta = abs(eta)
    if name == "hcal":
        c, a = (0.05, 1.5) if eta <= 3 else (0.13, 2.7)
        return np.sqrt((c * energy) ** 2 + a**2 * energy) if eta <= 5 else 0.0
    if eta > 2.5:
        return np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy) if eta <= 5 else 0.0
    scale = 1 + 0.64 * eta**2 if eta <= 1.5 else 2.16 + 5.6 * (eta - 2) ** 2
    return scale * np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)


def fraction_twin(name, pdg_id):
    """Deposited share as DETECTOR.md writes it."""
    if name == "ecal":
        return {11: 1.0, 22: 1.0, 111: 1.0, 310: 0.3, 3122: 0.3}.get(abs(pdg_id), 0.0)
    blind = (11, 22, 111, 12, 13, 14, 16, 1000022, 1000023, 1000025, 1000035, 1000045)
    return 0.0 if abs(pdg_id) in blind else {310: 0.7, 3122: 0.7}.get(abs(pdg_id), 1.0)


def tower_twin(name, eta, phi):
    """Row and column of the tower (lo, hi] in plain NumPy; None outside."""
    calorimeter = getattr(DETECTORS["cms"], name)
    row = np.searchsorted(calorimeter.eta_edges, eta, side="left") - 1
    if not 0 <= row < len(calorimeter.n_phi):
        return None
    half = calorimeter.n_phi[row] // 2
    column = np.searchsorted([i * math.pi / half for i in range(-half, half + 1)], phi, side="left") - 1
    return (row, column) if 0 <= column < 2 * half else None


def share_out_twin(energy, sigma, track_energy, track_variance, energy_min, significance_min):
    """Energy flow in one tower as DETECTOR.md writes it."""
    neutral = max(energy - track_energy, 0)
    spread = math.sqrt(track_variance + sigma**2)
    if neutral > energy_min and neutral > significance_min * spread:
        return neutral, 1.0
    if track_energy <= 0:
        return 0.0, 1.0
    wt = 1 / track_variance if track_variance else 0.0
    wc = 1 / sigma**2 if sigma else 0.0
    return 0.0, (wt * track_energy + wc * energy) / (wt + wc) / track_energy if wt + wc else 1.0


def efficiency_twin(pdg_id, pt, eta):
    """Tracking efficiency as DETECTOR.md writes it; eta of the outer position."""
    barrel = np.abs(eta) <= 1.5
    if abs(pdg_id) == 11:
        low, mid = np.where(barrel, 0.73, 0.50), np.where(barrel, 0.95, 0.83)
        high = np.where(pt > 100, np.where(barrel, 0.99, 0.90), mid)
    elif abs(pdg_id) == 13:
        low, mid = np.where(barrel, 0.75, 0.70), np.where(barrel, 0.99, 0.98)
        high = np.where(pt > 1000, mid * np.exp(0.5 - 5e-4 * pt), mid)
    else:
        low, high = np.where(barrel, 0.70, 0.60), np.where(barrel, 0.95, 0.85)
    return np.where((pt > 0.1) & (np.abs(eta) <= 2.5), np.where(pt <= 1, low, high), 0.0)


def resolution_twin(pdg_id, pt, eta):
    """Momentum resolution as DETECTOR.md writes it; eta of the outer position."""
    region = np.searchsorted([0.5, 1.5], np.abs(eta), side="left")
    a = np.array({11: (0.03, 0.05, 0.15), 13: (0.01, 0.015, 0.025)}.get(abs(pdg_id), (0.06, 0.10, 0.25)))
    b = np.array((1.0e-4, 1.5e-4, 3.5e-4) if abs(pdg_id) == 13 else (1.3e-3, 1.7e-3, 3.1e-3))
    return np.minimum(1.0, np.hypot(a[region], b[region] * pt))


def log_normal_twin(rng, mean, sigma, n):
    if mean <= 0:
        return np.zeros(n)
    width = np.sqrt(np.log(1 + (sigma / mean) ** 2))
    return np.exp(np.log(mean) - width**2 / 2 + width * rng.standard_normal(n))
