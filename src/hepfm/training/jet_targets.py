"""What masked modelling can ask of a track, and of a jet as a whole: all computed of the jet, no label among it."""

from collections.abc import Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.inputs import PT, constituent_inputs
from hepfm.models.mpm import JET_TARGETS, NOT_ASKED, SIGNIFICANCES
from hepfm.schema import TRACKS, unknown_name
from hepfm.table import JetTable

_TAUS = ("jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4")
_TYPES = ("part_isChargedHadron", "part_isPhoton", "part_isElectron", "part_isMuon")
# Logarithms begin here: 1 GeV of mass, and a thousandth of an N-subjettiness.
_LEAST_MASS, _LEAST_TAU = 1.0, 1e-3
# Of the transverse impact parameter, in standard deviations.
_DISPLACED, _FAR = 3.0, 10.0
_MOST_DISPLACED = 3

COLUMNS = ("jet_sdmass", *_TAUS)
"""Columns of a dataset that `jet_targets` needs."""


def jet_targets(table: JetTable) -> NDArray[np.float64]:
    """Make `JET_TARGETS`, as they are; `Scale` makes them comparable.

    Logarithms of the soft-drop mass, the first N-subjettiness, three ratios of those (arXiv:1011.2268) and the number
    of constituents; shares of the transverse momentum that charged hadrons, photons and tracks with |d0| over three
    standard deviations have; and, as log(1 + x), the transverse momenta of the hardest electron and muon, the numbers
    of tracks with |d0| over three and over ten standard deviations, and the three largest |d0| in standard deviations.

    Args:
        table: N jets with `COLUMNS`, and particle types and tracks if they are known.

    Returns:
        Shape (N, 16); NaN where what a number is made of is unknown.

    Raises:
        InputError: the table lacks a column.
    """
    for name in COLUMNS:
        if name not in table.columns:
            msg = "mpm.targets has 'jet'. " + unknown_name("column of jets", name, table.columns)
            raise InputError(msg)
    found = np.stack([*_substructure(table), *_composition(table), *_displacement(table)], axis=1, dtype=np.float64)
    assert found.shape[1] == len(JET_TARGETS)
    return found


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and width of each target over some jets, shape (K,): those of training are the units of all others."""

    mean: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def of(cls, targets: NDArray[np.float64]) -> "Scale":
        """Of targets of shape (N, K), NaN where unknown; a target that never changes has width 1."""
        n_known = (~np.isnan(targets)).sum(0).clip(1)
        mean = np.nansum(targets, 0) / n_known
        width = np.sqrt(np.nansum((targets - mean) ** 2, 0) / n_known)
        return cls(mean, np.where(width > 0, width, 1.0))

    def __call__(self, targets: NDArray[np.float64]) -> NDArray[np.float32]:
        """Give the targets in these units, shape (N, K)."""
        standard: NDArray[np.float32] = ((targets - self.mean) / self.width).astype(np.float32)
        return standard


def _substructure(table: JetTable) -> tuple[NDArray[np.floating], ...]:
    tau = [table.columns[name].clip(_LEAST_TAU) for name in _TAUS]
    ratios = (tau[0], tau[1] / tau[0], tau[2] / tau[1], tau[3] / tau[2])
    return (
        np.log(table.columns["jet_sdmass"].clip(_LEAST_MASS)),
        *(np.log(ratio) for ratio in ratios),
        np.log(table.counts.clip(1)),
    )


def _composition(table: JetTable) -> tuple[NDArray[np.floating], ...]:
    """What kinds of particles carry the momentum."""
    (pt, charged, photon, electron, muon), known = _by_jet(table, (PT, *_TYPES))
    of_jet = ak.sum(pt, axis=1)
    shares = (ak.sum(pt * kind, axis=1) / of_jet for kind in (charged, photon))
    hardest = (np.log1p(ak.max(pt * kind, axis=1, initial=0, mask_identity=False)) for kind in (electron, muon))
    return tuple(np.where(known, ak.to_numpy(values), np.nan) for values in (*shares, *hardest))


def _displacement(table: JetTable) -> tuple[NDArray[np.floating], ...]:
    """How many tracks miss the collision, and by how much."""
    (pt, d0, error), known = _by_jet(table, (PT, *TRACKS[:2]))
    significance = abs(d0) / ak.where(error > 0, error, np.inf)
    share = ak.sum(pt * (significance > _DISPLACED), axis=1) / ak.sum(pt, axis=1)
    counts = (np.log1p(ak.sum(significance > edge, axis=1)) for edge in (_DISPLACED, _FAR))
    largest = ak.sort(significance, axis=1, ascending=False)
    largest = ak.to_numpy(ak.fill_none(ak.pad_none(largest, _MOST_DISPLACED, axis=1, clip=True), 0.0))
    return tuple(np.where(known, ak.to_numpy(values), np.nan) for values in (share, *counts, *np.log1p(largest).T))


def _by_jet(table: JetTable, names: Sequence[str]) -> tuple[list[ak.Array], NDArray[np.bool_]]:
    """Inputs as lists, and which jets have all of them; what is unknown is 0."""
    inputs = constituent_inputs(table, names, allow_missing=True)
    known = ak.to_numpy(~ak.any(ak.unflatten(np.isnan(inputs).any(1), table.counts), axis=1))
    return [ak.unflatten(np.nan_to_num(values), table.counts) for values in inputs.T], known & (table.counts > 0)


def check_tracks(inputs: Sequence[str]) -> None:
    """Check that displacements can be asked of jets with these inputs.

    Raises:
        InputError: they lack an impact parameter or its error.
    """
    if missing := [name for name in TRACKS if name not in inputs]:
        msg = f"mpm.targets has 'displacement', but the inputs have no {missing[0]}. Leave it out, or add that input."
        raise InputError(msg)


def displacements(constituents: torch.Tensor, inputs: Sequence[str]) -> torch.Tensor:
    """Say how far tracks pass the collision, in classes between `SIGNIFICANCES`.

    Args:
        constituents: physical inputs, shape (..., F).
        inputs: their names, which `check_tracks` has passed.

    Returns:
        Classes of d0 and dz, each over its error, added in quadrature; `NOT_ASKED` where there is no track or it is
        unknown; shape (...).
    """
    d0, d0_error, dz, dz_error = (constituents[..., list(inputs).index(name)] for name in TRACKS)
    significance = torch.hypot(d0 / d0_error, dz / dz_error)
    classes = torch.bucketize(significance, torch.tensor(SIGNIFICANCES))
    return torch.where((d0_error > 0) & (dz_error > 0) & significance.isfinite(), classes, NOT_ASKED)
