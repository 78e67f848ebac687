"""Particle-flow candidates of CMS as the schema's constituents: what Aspen Open Jets and NanoAOD share.

Both hold the candidates as CMS reconstructed them. PUPPI (arXiv:1407.6013) gives each of them the probability, 0 to 1,
that it is no pile-up; CMS's AK8 jets are made of four-momenta that are multiplied by it. Impact parameters are in cm,
their sign is CMS's, and -1 in all four of d0, dz and their errors says that there is no track.

Source: pat::PackedCandidate and PFNano's addPFCands_cff.py (CMS); Delphes, ParticlePropagator.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.conversion import as_column, falling_pt
from hepfm.kinematics import relative_directions
from hepfm.schema import CONSTITUENT_COLUMNS
from hepfm.table import JetTable

NOTES = (
    "no jet_label: these are CMS jets, real or simulated, without labels",
    "constituents are the particle-flow candidates, their four-momenta multiplied by the PUPPI weight; "
    "those of weight 0 are left out",
    "jet_pt and jet_energy are calibrated, while the constituents sum to the uncalibrated jet",
    "d0 and dz were cm and are mm; the sign of d0 is turned from CMS's to Delphes' and JetClass's; "
    "0 where there is no track",
    "hadronic and electromagnetic deposits of the forward calorimeter (PDG codes 1 and 2) count as neutral hadrons "
    "and photons",
    "event_id is run * 2^40 + event number",
)
"""What both readers assume and convert."""

_NO_TRACK = -1.0
_MM_PER_CM = 10.0
# CMS: dxy = -dx sin(phi) + dy cos(phi); Delphes: D0 = (dx py - dy px) / pt. dz has the same sense in both. Verified on
# real tracks from secondary vertices (tests/formats/test_nanoaod.py).
_IMPACT_PARAMETERS = MappingProxyType(
    {
        "part_d0val": ("d0", -_MM_PER_CM),
        "part_d0err": ("d0err", _MM_PER_CM),
        "part_dzval": ("dz", _MM_PER_CM),
        "part_dzerr": ("dzerr", _MM_PER_CM),
    }
)
_MOMENTUM = MappingProxyType({"part_px": "px", "part_py": "py", "part_pz": "pz", "part_energy": "energy"})
_EVENT_BITS, _RUN_BITS = 40, 22

NEUTRINOS = (12, 14, 16)
"""PDG codes of neutrinos: massless, and of none of the five types."""

Floats = NDArray[np.float64]


def constituents(
    path: str,
    offsets: NDArray[np.int64],
    raw: Callable[[str], NDArray[Any]],
    axes: tuple[NDArray[Any], NDArray[Any]],
    names: Sequence[str],
) -> JetTable:
    """Weight candidates by PUPPI, drop those of weight 0 and order the others.

    Args:
        path: of the file, for errors.
        offsets: jet `i` owns the candidates `offsets[i]` to `offsets[i + 1]`; shape (N + 1,).
        raw: gives a quantity of all M candidates, as CMS has it: px, py, pz, energy (GeV), weight, charge, pdg_id, d0,
            d0err, dz, dzerr (cm). Only what is needed is asked for.
        axes: pseudorapidity and azimuth of the jets, shape (N,) each.
        names: of the columns wanted.

    Returns:
        N jets with no columns but those constituents' that are named, `part_px` and `part_py`; ordered by falling pt.

    Raises:
        InputError: a weight is negative or no number, a momentum not finite, or a charge no integer.
    """
    weight = np.asarray(raw("weight"), np.float64)
    if not np.all(weight >= 0):
        msg = f"{path}: a PUPPI weight is {weight[~(weight >= 0)][0]}; expected 0 to 1"
        raise InputError(msg)
    # NaN is unequal to zero: it is refused below instead of being taken for padding.
    keep = (weight > 0) & (np.hypot(raw("px"), raw("py")) != 0)
    jet = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[keep]

    def momentum(name: str) -> Floats:
        values: Floats = weight[keep] * raw(_MOMENTUM[name])[keep]
        if not np.all(np.isfinite(values)):
            msg = (
                f"{path}: {name} of a candidate is {values[~np.isfinite(values)][0]}; expected a finite number. Leave "
                "out its jet, and write the file again."
            )
            raise InputError(msg)
        return values

    columns: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(("part_px", "part_py", *names)):
        if name in _MOMENTUM:
            columns[name] = momentum(name)
        elif name in _IMPACT_PARAMETERS:
            source, factor = _IMPACT_PARAMETERS[name]
            columns[name] = np.where(_has_track(raw), factor * np.asarray(raw(source), np.float64), 0.0)[keep]
        elif name == "part_charge":
            columns[name] = raw("charge")[keep]
        elif name in ("part_deta", "part_dphi"):
            momenta = (columns["part_px"], columns["part_py"], momentum("part_pz"))
            columns[name] = relative_directions(momenta, axes[0][jet], axes[1][jet])[name]
        else:
            columns[name] = type_flags(raw("pdg_id")[keep], raw("charge")[keep])[name]
    typed = {name: as_column(values, CONSTITUENT_COLUMNS[name], path) for name, values in columns.items()}
    return falling_pt(JetTable({}, offsets_of(jet, len(offsets) - 1), typed))


def offsets_of(jet: NDArray[np.intp], n_jets: int) -> NDArray[np.int64]:
    """Offsets of constituents that come in the order of their jets."""
    ends: NDArray[np.int64] = np.zeros(n_jets + 1, np.int64)
    np.cumsum(np.bincount(jet, minlength=n_jets), out=ends[1:])
    return ends


def type_flags(pdg_id: NDArray[Any], charge: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """What kind of particle each one is: one of five, or a neutrino, which is none of them.

    Args:
        pdg_id: PDG codes of particles, or of CMS's particle-flow candidates: 211, 130, 22, 11, 13, and 1 and 2 for
            hadronic and electromagnetic deposits of the forward calorimeter.
        charge: electric charges.
    """
    code = np.abs(pdg_id)
    electron, muon, photon = code == 11, code == 13, (code == 22) | (code == 2)
    hadron = ~(electron | muon | photon | np.isin(code, NEUTRINOS))
    return {
        "part_isChargedHadron": hadron & (charge != 0),
        "part_isNeutralHadron": hadron & (charge == 0),
        "part_isPhoton": photon,
        "part_isElectron": electron,
        "part_isMuon": muon,
    }


def summed(offsets: NDArray[np.int64], momenta: Sequence[NDArray[Any]]) -> Floats:
    """Four-momenta of the jets that constituents add up to.

    Args:
        offsets: of N jets.
        momenta: px, py, pz and energy of M constituents.

    Returns:
        px, py, pz and energy, shape (4, N); zeros where a jet has no constituent.
    """
    n_jets = len(offsets) - 1
    jet = np.repeat(np.arange(n_jets), np.diff(offsets))
    return np.array([np.bincount(jet, np.asarray(values, np.float64), n_jets) for values in momenta])


def calibrated_energy(sums: Floats, jet_pt: NDArray[Any], jet_eta: NDArray[Any]) -> Floats:
    """Energy of jets of which only pt and eta are known besides the constituents.

    A jet-energy calibration multiplies the four-momentum: the mass is that of the constituents, grown as pt has.

    Args:
        sums: what the constituents add up to, as from `summed`.
        jet_pt: calibrated transverse momenta, shape (N,).
        jet_eta: pseudorapidities, shape (N,).
    """
    px, py, pz, energy = sums
    pt = np.hypot(px, py)
    mass2 = np.maximum(energy**2 - pt**2 - pz**2, 0.0)
    growth2 = np.divide(np.asarray(jet_pt, np.float64) ** 2, pt**2, out=np.zeros_like(pt), where=pt > 0)
    result: Floats = np.sqrt((jet_pt * np.cosh(np.asarray(jet_eta, np.float64))) ** 2 + mass2 * growth2)
    return result


def event_id(path: str, run: NDArray[Any], event: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each event that is unique among all runs: event numbers alone begin anew in every run.

    Raises:
        InputError: a run or event number is too large for CMS's.
    """
    if np.any(event >= 1 << _EVENT_BITS) or np.any(run >= 1 << _RUN_BITS) or np.any(event < 0) or np.any(run < 0):
        msg = (
            f"{path}: cannot make event_id of run {np.max(run)} and event {np.max(event)}; expected runs below "
            f"2^{_RUN_BITS} and events below 2^{_EVENT_BITS}. Read the columns 'run' and 'event' instead."
        )
        raise InputError(msg)
    return (run.astype(np.int64) << _EVENT_BITS) | event.astype(np.int64)


def _has_track(raw: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
    values = np.array([raw(name) for name in ("d0", "d0err", "dz", "dzerr")])
    result: NDArray[np.bool_] = np.any(values != _NO_TRACK, axis=0)
    return result
