"""What masked modelling can ask of a track, and of a jet as a whole: all computed of the jet, no label among it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.inputs import constituent_inputs
from hepfm.models.mpm import JET_TARGETS, NOT_ASKED, SIGNIFICANCES
from hepfm.schema import unknown_name
from hepfm.table import JetTable

_TAUS = ("jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4")
_TRACK = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")
# Logarithms begin here: 1 GeV of mass, and a thousandth of an N-subjettiness.
_LEAST_MASS, _LEAST_TAU = 1.0, 1e-3
# Of the transverse impact parameter, in standard deviations.
_DISPLACED = 3.0

COLUMNS = ("jet_sdmass", *_TAUS)
"""Columns of a dataset that `jet_targets` needs."""


def jet_targets(table: JetTable) -> NDArray[np.float32]:
    """Make `JET_TARGETS`: logarithms of observables, each of mean 0 and width 1 over the jets of the table.

    Soft-drop mass, the first N-subjettiness, three ratios of those (arXiv:1011.2268), the number of constituents, and
    the number of tracks whose d0 is three standard deviations away from zero, which is 0 where tracks are unknown.

    Args:
        table: N jets with `COLUMNS`, and tracks if they are known.

    Returns:
        Shape (N, 7).

    Raises:
        InputError: the table lacks a column.
    """
    for name in COLUMNS:
        if name not in table.columns:
            msg = "mpm.targets has 'jet'. " + unknown_name("column of jets", name, table.columns)
            raise InputError(msg)
    tau = [table.columns[name].astype(np.float64).clip(_LEAST_TAU) for name in _TAUS]
    d0, error = constituent_inputs(table, _TRACK[:2], allow_missing=True).T
    # Constituents lie jet after jet: a sum over each jet is a difference of running sums.
    displaced = np.concatenate([[0], np.cumsum((error > 0) & (np.abs(d0) > _DISPLACED * error))])
    found = np.log(
        np.stack(
            [
                table.columns["jet_sdmass"].astype(np.float64).clip(_LEAST_MASS),
                tau[0],
                tau[1] / tau[0],
                tau[2] / tau[1],
                tau[3] / tau[2],
                table.counts.clip(1),
                1.0 + np.diff(displaced[table.offsets]),
            ],
            axis=1,
        )
    )
    assert found.shape[1] == len(JET_TARGETS)
    width = found.std(0)
    standard: NDArray[np.float32] = ((found - found.mean(0)) / np.where(width > 0, width, 1.0)).astype(np.float32)
    return standard


def check_tracks(inputs: Sequence[str]) -> None:
    """Check that displacements can be asked of jets with these inputs.

    Raises:
        InputError: they lack an impact parameter or its error.
    """
    if missing := [name for name in _TRACK if name not in inputs]:
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
    d0, d0_error, dz, dz_error = (constituents[..., list(inputs).index(name)] for name in _TRACK)
    significance = torch.hypot(d0 / d0_error, dz / dz_error)
    classes = torch.bucketize(significance, torch.tensor(SIGNIFICANCES))
    return torch.where((d0_error > 0) & (dz_error > 0), classes, NOT_ASKED)
