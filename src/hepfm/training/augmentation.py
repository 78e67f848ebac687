"""Turn and mirror jets about their axis: what a network may not know of the plane of eta and phi."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError

_PLANE = ("part_deta", "part_dphi")
# Of the coordinate in the plane, the impact parameter whose sign follows it.
_FOLLOWS = {"part_deta": "part_dzval", "part_dphi": "part_d0val"}
_FIXED = ("part_px", "part_py", "part_pz")


def check_turnable(inputs: Sequence[str]) -> None:
    """Check that jets of these inputs can be turned.

    Raises:
        InputError: they lack a coordinate of the plane, or hold momenta along axes of the laboratory.
    """
    if fixed := [name for name in _FIXED if name in inputs]:
        msg = f"jets with {fixed[0]} cannot be turned about their axis: use part_pt and part_energy, or rotate = false."
        raise InputError(msg)
    if missing := [name for name in _PLANE if name not in inputs]:
        msg = f"jets without {missing[0]} cannot be turned about their axis: add it to the inputs, or rotate = false."
        raise InputError(msg)


def turn(constituents: NDArray[np.float32], inputs: Sequence[str], rng: np.random.Generator) -> None:
    """Turn each jet about its axis by a random angle, and mirror half of them; in place.

    (deta, dphi) turns as a vector, so that angles between constituents and to the axis stay; transverse momentum,
    energy and all that is no direction stays as it is. d0 grows with dphi and dz with deta for what a displaced decay
    near the axis gives off: d0 keeps the sign that it has relative to dphi, and dz relative to deta, so that what comes
    from ahead still does. Their sizes and uncertainties stay, for the two are measured with different resolutions.

    Besides, all dz of a jet change sign half of the time: deta has been multiplied by the sign of the jet's eta and dz
    has not, so this is the mirror along the beam.

    Args:
        constituents: physical inputs, shape (B, N, F).
        inputs: their names, which `check_turnable` has passed.
        rng: where angles come from; 3 numbers a jet.
    """
    place = {name: i for i, name in enumerate(inputs)}
    angle, mirror, beam = rng.random((3, len(constituents), 1), np.float32)
    cosine, sine = np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)
    deta = constituents[..., place["part_deta"]]
    dphi = constituents[..., place["part_dphi"]]
    flipped = dphi * np.where(mirror < 0.5, -1, 1).astype(np.float32)
    turned = {"part_deta": cosine * deta - sine * flipped, "part_dphi": sine * deta + cosine * flipped}
    for name, old in (("part_deta", deta), ("part_dphi", dphi)):
        if _FOLLOWS[name] in place:
            changes = np.signbit(old) != np.signbit(turned[name])
            constituents[..., place[_FOLLOWS[name]]] *= np.where(changes, -1, 1).astype(np.float32)
    for name, values in turned.items():
        constituents[..., place[name]] = values
    if "part_dzval" in place:
        constituents[..., place["part_dzval"]] *= np.where(beam < 0.5, -1, 1).astype(np.float32)


def forget(
    constituents: NDArray[np.float32], groups: Sequence[Sequence[int]], share: float, rng: np.random.Generator
) -> None:
    """Make inputs unknown, so that a network learns what to do without them; in place.

    Args:
        constituents: physical inputs, shape (B, N, F).
        groups: places of inputs that are unknown together.
        share: of the jets, for each group by itself.
        rng: one number a jet and group.
    """
    for group in groups:
        lost = np.flatnonzero(rng.random(len(constituents)) < share)
        if len(lost):
            constituents[lost[:, None], :, np.asarray(group)] = np.nan
