"""Directions of momenta, and of constituents around their jet."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def pt_eta_phi(px: _Floats, py: _Floats, pz: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Transverse momentum, pseudorapidity and azimuth, -pi to pi; what has no transverse momentum has eta 0.

    What is no number stays none.
    """
    pt = np.hypot(px, py)
    slope = np.divide(pz, pt, out=np.zeros_like(pt), where=pt != 0)
    return pt, np.arcsinh(slope), np.arctan2(py, px)


def relative_directions(
    momenta: tuple[_Floats, _Floats, _Floats], jet_eta: NDArray[Any], jet_phi: NDArray[Any]
) -> dict[str, _Floats]:
    """`part_deta` and `part_dphi` of constituents, with JetClass's mirroring: "forward" is always positive.

    Args:
        momenta: px, py, pz of M constituents, none of them along the beam.
        jet_eta: pseudorapidity of each constituent's jet, shape (M,).
        jet_phi: azimuth of each constituent's jet, shape (M,).
    """
    _, eta, phi = pt_eta_phi(*momenta)
    return {"part_deta": np.where(jet_eta < 0, -1.0, 1.0) * (eta - jet_eta), "part_dphi": wrapped(phi - jet_phi)}


def wrapped(angle: Any) -> _Floats:  # noqa: ANN401 - a number or an array of them
    """Angles between -pi and pi; one that is there already keeps its bits."""
    angle = np.asarray(angle, np.float64)
    result: _Floats = np.where(np.abs(angle) <= np.pi, angle, (angle + np.pi) % (2 * np.pi) - np.pi)
    return result
