"""How far decoded jets are from the true ones: constituents, jets, and use of the codes. NumPy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.inputs import PT
from hepfm.resim.substructure import n_subjettiness, soft_drop_mass
from hepfm.schema import TRACKS
from hepfm.table import JetTable

_Floats = NDArray[np.float64]
# JetClass's jets and grooming, as in the schema.
_RADIUS, _ZCUT, _BETA = 0.8, 0.1, 0.0
_CHARGE, _KIND = "part_charge", "part_is"
_OF_ERRORS = ("median", "sigma", "within95")
_RANKS = (1, 2, 4, 8, 16, 32, 64)

UNITS = MappingProxyType(
    {
        PT: "relative",
        "part_deta": "",
        "part_dphi": "rad",
        "jet_pt": "relative",
        "jet_mass": "GeV",
        "jet_sdmass": "GeV",
        "jet_tau21": "",
        "jet_tau32": "",
        **dict.fromkeys(TRACKS, "mm"),
    }
)
"""Quantities whose errors are measured, with the unit of the errors; "relative" is (decoded - true) / true."""


def robust_sigma(errors: NDArray[Any]) -> float:
    """Half of the interval that holds the middle 68.27 %, a Gaussian's standard deviation; NaN of nothing."""
    if not len(errors):
        return float("nan")
    low, high = np.percentile(errors, [15.865, 84.135])
    return float(high - low) / 2


def summarise(errors: NDArray[Any]) -> dict[str, float]:
    """Median, robust sigma, and the size that 95 % of the errors stay below."""
    if not len(errors):
        return {"n": 0, "median": float("nan"), "sigma": float("nan"), "within95": float("nan")}
    return {
        "n": len(errors),
        "median": float(np.median(errors)),
        "sigma": robust_sigma(errors),
        "within95": float(np.percentile(np.abs(errors), 95)),
    }


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """N jets with M constituents before and after.

    Attributes:
        inputs: names of F quantities, the first three pt, deta, dphi.
        offsets: jet `i` owns constituents `offsets[i]:offsets[i + 1]`.
        true: shape (M, F).
        decoded: shape (M, F).
        ids: codes, shape (M,).
        n_codes: how many different ones there could be.
        labels: class of each jet, shape (N,), or None.
        classes: their names.
    """

    inputs: tuple[str, ...]
    offsets: NDArray[np.int64]
    true: NDArray[np.float32]
    decoded: NDArray[np.float32]
    ids: NDArray[np.int64]
    n_codes: int
    labels: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()

    @property
    def counts(self) -> NDArray[np.int64]:
        """Constituents of each jet, shape (N,)."""
        return np.diff(self.offsets)


def constituent_errors(made: Reconstruction) -> dict[str, NDArray[np.float32]]:
    """Errors of every number by its name, shape (M,); NaN for impact parameters of what has no charge."""
    errors = {}
    for place, name in enumerate(made.inputs):
        if name not in UNITS:
            continue
        true, decoded = made.true[:, place], made.decoded[:, place]
        difference = decoded - true
        if UNITS[name] == "relative":
            difference = difference / true
        if name in TRACKS:
            charged = made.true[:, made.inputs.index(_CHARGE)] != 0
            difference = np.where(charged, difference, np.nan)
        errors[name] = difference.astype(np.float32)
    return errors


def accuracies(made: Reconstruction) -> dict[str, float]:
    """Shares of constituents whose charge and whose kind are right, where they are part of the codes."""
    found = {}
    if _CHARGE in made.inputs:
        place = made.inputs.index(_CHARGE)
        found["charge"] = float(np.mean(made.true[:, place] == made.decoded[:, place]))
    if kinds := [place for place, name in enumerate(made.inputs) if name.startswith(_KIND)]:
        found["kind"] = float(np.mean((made.true[:, kinds] == made.decoded[:, kinds]).all(1)))
    return found


def jet_observables(kinematics: NDArray[Any], offsets: NDArray[np.int64]) -> dict[str, _Floats]:
    """Pt, mass, soft-drop mass and ratios of N-subjettiness of jets, made of massless constituents.

    Args:
        kinematics: pt in GeV, deta, dphi; shape (M, 3). The jet's own direction and the sign of deta do not matter.
        offsets: of the jets, shape (N + 1,).

    Returns:
        Arrays of shape (N,); ratios are NaN where the denominator is zero.
    """
    pt, deta, dphi = np.asarray(kinematics, np.float64).T
    parts = np.column_stack([pt * np.cos(dphi), pt * np.sin(dphi), pt * np.sinh(deta), pt * np.cosh(deta)])
    sums = np.zeros((len(offsets) - 1, 4))
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        sums[filled] = np.add.reduceat(parts, offsets[:-1][filled])
    px, py, pz, energy = sums.T
    found = {"jet_pt": np.hypot(px, py), "jet_mass": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))}
    found["jet_sdmass"] = np.zeros(len(sums))
    taus = np.zeros((len(sums), 4))
    if len(filled):
        compact = np.append(offsets[:-1][filled], offsets[-1]).astype(np.int64)
        found["jet_sdmass"][filled] = soft_drop_mass(parts, compact, _RADIUS, _ZCUT, _BETA)
        taus[filled] = n_subjettiness(parts, compact, _RADIUS)
    for name, over, under in (("jet_tau21", 1, 0), ("jet_tau32", 2, 1)):
        defined = taus[:, under] > 0
        found[name] = np.where(defined, taus[:, over] / np.where(defined, taus[:, under], 1.0), np.nan)
    return found


def jet_errors(made: Reconstruction) -> dict[str, _Floats]:
    """Errors of `jet_observables`, shape (N,); NaN where one is not defined before or after."""
    true, decoded = (jet_observables(values[:, :3], made.offsets) for values in (made.true, made.decoded))
    errors = {}
    for name, values in true.items():
        difference = decoded[name] - values
        if UNITS[name] == "relative":
            with np.errstate(invalid="ignore", divide="ignore"):
                difference = np.where(values > 0, difference / values, np.nan)
        errors[name] = difference
    return errors


def code_use(ids: NDArray[np.int64], n_codes: int) -> dict[str, float]:
    """Share of the codes that occur, perplexity, and entropy in bits a particle, of some ids."""
    counts = np.bincount(ids, minlength=n_codes)
    shares = counts[counts > 0] / max(1, len(ids))
    entropy = float(-(shares * np.log2(shares)).sum())
    return {"used": float(np.mean(counts > 0)), "perplexity": 2.0**entropy, "entropy": entropy}


def measure(made: Reconstruction) -> dict[str, Any]:
    """All figures about a reconstruction; NaN for those of no constituents or jets."""
    of_constituents, of_jets = constituent_errors(made), jet_errors(made)
    found: dict[str, Any] = {
        "n_jets": len(made.offsets) - 1,
        "n_constituents": len(made.ids),
        "n_codes": made.n_codes,
        "bits": float(np.log2(made.n_codes)),
        "codes": code_use(made.ids, made.n_codes),
        "accuracy": accuracies(made),
        "constituents": _summaries(of_constituents, slice(None)),
        "jets": _summaries(of_jets, slice(None)),
        "by_rank": _by_rank(made, of_constituents),
    }
    if made.labels is not None:
        found["by_class"] = _by_class(made, of_constituents, of_jets)
    return found


def table_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What `evaluate_tokenizer` gives as rows of a table: quantity, unit, median, robust sigma, 95 % within."""
    errors = {**found["constituents"], **found["jets"]}
    return [
        (name, UNITS[name], *("-" if values[key] is None else f"{values[key]:.4g}" for key in _OF_ERRORS))
        for name, values in errors.items()
    ]


def read_reconstruction(
    tokenizer: Any,  # noqa: ANN401 (a ParticleTokenizer, or anything with `inputs`, `n_codes` and `reconstruct`)
    table: JetTable,
    true: NDArray[np.float32],
    classes: Sequence[str] = (),
) -> Reconstruction:
    """Encode and decode a table of jets whose `true` inputs, shape (M, F), are at hand."""
    ids, decoded = tokenizer.reconstruct(table)
    labels = table.columns.get("jet_label") if classes else None
    return Reconstruction(
        tuple(tokenizer.inputs), table.offsets, true, decoded, ids, tokenizer.n_codes, labels, tuple(classes)
    )


def _summaries(errors: Mapping[str, NDArray[Any]], chosen: slice | NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    found = {}
    for name, values in errors.items():
        some = values[chosen]
        found[name] = summarise(some[~np.isnan(some)])
    return found


def _by_rank(made: Reconstruction, errors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """By place of the constituent in its jet, from the hardest on."""
    rank = np.arange(len(made.ids)) - np.repeat(made.offsets[:-1], made.counts) + 1
    found = {}
    for low, high in zip(_RANKS, (*_RANKS[1:], 1 << 30), strict=True):
        chosen = (rank >= low) & (rank < high)
        name = f"{low}" if high == low + 1 else f"{low}-{high - 1}" if high < 1 << 30 else f"{low}-"
        if chosen.any():
            found[name] = _summaries(errors, chosen)
    return found


def _by_class(
    made: Reconstruction, of_constituents: Mapping[str, NDArray[Any]], of_jets: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    labels = np.asarray(made.labels)
    owner = np.repeat(labels, made.counts)
    return {
        name: {
            "constituents": _summaries(of_constituents, owner == label),
            "jets": _summaries(of_jets, labels == label),
        }
        for label, name in enumerate(made.classes)
        if np.any(labels == label)
    }
