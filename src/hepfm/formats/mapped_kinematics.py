"""Four-momenta, charges and types of jets and constituents, of whatever quantities a table has of them."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.candidates import (
    NEUTRINOS,
    Floats,
    calibrated_energy,
    offsets_of,
    type_flags,
)
from hepfm.formats.candidates import summed as sum_of
from hepfm.formats.table_sources import Ragged
from hepfm.kinematics import pt_eta_phi, relative_directions, wrapped

MOMENTUM = ("part_px", "part_py", "part_pz", "part_energy")
# CMS's codes for deposits of its forward calorimeter, which as PDG codes are quarks.
_FORWARD = (1, 2)
_ALONG = ("part_pz", "part_eta", "part_eta_rel", "part_rapidity")
_RELATIVE = {"part_pt_rel": "jet_pt", "part_eta_rel": "jet_eta", "part_phi_rel": "jet_phi"}


def assumptions(where: str, have: Collection[str]) -> tuple[str, ...]:
    """Check that four-momenta follow from the quantities that a column map names, and say what is assumed.

    Raises:
        InputError: something is missing; the message begins with `where`.
    """
    transverse = {"part_px", "part_py"} <= set(have)
    transverse |= any(pt in have for pt in ("part_pt", "part_pt_rel")) and any(
        phi in have for phi in ("part_phi", "part_phi_rel")
    )
    if not transverse or not any(name in have for name in _ALONG):
        missing = "part_px and part_py, or part_pt and part_phi" if not transverse else " or ".join(_ALONG)
        msg = f"{where}: [constituents] needs {missing} (pt and phi also as part_pt_rel and part_phi_rel)"
        raise InputError(msg)
    for name, axis in _RELATIVE.items():
        if name in have and axis not in have and not {"jet_px", "jet_py", "jet_pz"} <= set(have):
            msg = f"{where}: {name!r} is relative to the jet: [jets] needs {axis!r} (a column, or one number for all)"
            raise InputError(msg)
    notes = []
    if not any(name in have for name in ("part_energy", "part_mass", "part_pdg_id")):
        notes.append("constituents are taken as massless")
    elif "part_energy" not in have and "part_mass" not in have:
        notes.append("the constituents' masses are those of the PDG for their codes")
    if "part_weight" in have:
        notes.append("four-momenta are multiplied by the weight; constituents of weight 0 are left out")
    absent = [name for name in ("jet_pt", "jet_eta", "jet_phi") if name not in have]
    if absent and not {"jet_px", "jet_py", "jet_pz"} <= set(have):
        notes.append(f"{', '.join(absent)} are those of the constituents' sum")
    if not any(name in have for name in ("jet_energy", "jet_mass")):
        whose = "the constituents' sum" if len(absent) == 3 else "the constituents' sum, times jet_pt by its pt"
        notes.append(f"jet_energy is made with the mass of {whose}")
    return tuple(notes)


class MappedJets:
    """Some jets of a table; every quantity is worked out when it is first asked for."""

    def __init__(self, path: str, n_jets: int, jets: Mapping[str, NDArray[Any]], parts: Mapping[str, Ragged]) -> None:
        """Wrap what was read, scaled to the schema's units.

        Args:
            path: of the file, for errors.
            n_jets: number of jets, N.
            jets: quantities of jets, shape (N,), by the names that column maps use.
            parts: quantities of constituents or of the padding's empty places.
        """
        self._path, self._n_jets, self._jets, self._parts = path, n_jets, jets, parts

    @cached_property
    def _kept(self) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which places hold a constituent, and the jet of each that does."""
        have = self._parts
        offsets = next(iter(have.values())).offsets
        for name, part in have.items():
            if not np.array_equal(part.offsets, offsets):
                msg = f"{self._path}: {name!r} and {next(iter(have))!r} have different numbers of constituents in a jet"
                raise InputError(msg)
        transverse = self._transverse(lambda name: have[name].values)
        # NaN is padding only if the map says so by `missing`, of which 0 was made.
        is_nan = np.isnan(transverse)
        keep: NDArray[np.bool_] = (transverse > 0) | is_nan
        for name in ("part_mask", "part_weight"):
            if name in have:
                keep &= have[name].values > 0
        if np.any(keep & is_nan):
            msg = (
                f"{self._path}: the transverse momentum of a constituent is not a number; is a column not what the map "
                "says? If NaN fills empty places, say so by { column = ..., missing = nan }."
            )
            raise InputError(msg)
        return keep, np.repeat(np.arange(self._n_jets), np.diff(offsets))[keep]

    @property
    def jet(self) -> NDArray[np.intp]:
        """The jet of each constituent."""
        return self._kept[1]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Jet `i` owns the constituents `offsets[i]` to `offsets[i + 1]`."""
        return offsets_of(self.jet, self._n_jets)

    def part(self, name: str) -> NDArray[Any]:
        """A quantity of the constituents as the table has it, without padding."""
        return self._parts[name].values[self._kept[0]]

    @cached_property
    def momenta(self) -> Floats:
        """px, py, pz and energy of the constituents, shape (4, M)."""
        with np.errstate(over="ignore", invalid="ignore"):
            px, py = self._px_py()
            pt = np.hypot(px, py)
            pz, energy = self._pz_energy(pt)
            result = np.array([px, py, pz, energy], np.float64)
            if "part_weight" in self._parts:
                result *= self._float("part_weight")
        if not np.all(np.isfinite(result)):
            msg = f"{self._path}: the four-momentum of a constituent is not finite; is a column not what the map says?"
            raise InputError(msg)
        return result

    @cached_property
    def sums(self) -> Floats:
        """What the constituents of each jet add up to: px, py, pz and energy, shape (4, N)."""
        return sum_of(self.offsets, list(self.momenta))

    @cached_property
    def directions(self) -> dict[str, Floats]:
        """`part_deta` and `part_dphi`."""
        px, py, pz, _ = self.momenta
        eta, phi = (self.axis(name)[self.jet] for name in ("jet_eta", "jet_phi"))
        return relative_directions((px, py, pz), eta, phi)

    def energy(self) -> NDArray[Any]:
        """Energy of the jets."""
        if "jet_energy" in self._jets:
            return self._jets["jet_energy"]
        pt, eta = (self.axis(name).astype(np.float64) for name in ("jet_pt", "jet_eta"))
        if "jet_mass" in self._jets:
            return np.asarray(np.hypot(pt * np.cosh(eta), self._jets["jet_mass"].astype(np.float64)))
        return calibrated_energy(self.sums, pt, eta)

    def direction(self, what: str) -> tuple[Floats, Floats, Floats]:
        """pt, eta and phi of `{what}_px`, `{what}_py`, `{what}_pz`; zeros where these are zero."""
        return pt_eta_phi(*(self._jets[f"{what}_{axis}"].astype(np.float64) for axis in ("px", "py", "pz")))

    def charge(self) -> NDArray[Any]:
        """Electric charges of the constituents."""
        if "part_charge" in self._parts:
            return self.part("part_charge")
        return self._by_code(_charge)

    def flags(self) -> dict[str, NDArray[np.bool_]]:
        """Types of the constituents by their codes."""
        return type_flags(self.part("part_pdg_id"), self.charge())

    def axis(self, name: str) -> NDArray[Any]:
        """`jet_pt`, `jet_eta` or `jet_phi`: of the table, or else of the constituents' sum."""
        if name in self._jets:
            values = self._jets[name]
            return wrapped(values) if name == "jet_phi" else values
        place = ("jet_pt", "jet_eta", "jet_phi").index(name)
        if {"jet_px", "jet_py", "jet_pz"} <= self._jets.keys():
            return self.direction("jet")[place]
        return pt_eta_phi(*self.sums[:3])[place]

    def _float(self, name: str) -> Floats:
        return self.part(name).astype(np.float64)

    def _transverse(self, values: Callable[[str], NDArray[Any]]) -> Floats:
        """Transverse momentum, or what is zero where it is."""
        if "part_px" in self._parts and "part_py" in self._parts:
            return np.hypot(*(values(name).astype(np.float64) for name in ("part_px", "part_py")))
        return values("part_pt" if "part_pt" in self._parts else "part_pt_rel").astype(np.float64)

    def _px_py(self) -> tuple[Floats, Floats]:
        if "part_px" in self._parts and "part_py" in self._parts:
            return self._float("part_px"), self._float("part_py")
        pt = self._transverse(self.part)
        if "part_pt" not in self._parts:
            pt = pt * self.axis("jet_pt")[self.jet]
        if "part_phi" in self._parts:
            phi = self._float("part_phi")
        else:
            phi = self._float("part_phi_rel") + self.axis("jet_phi")[self.jet]
        return pt * np.cos(phi), pt * np.sin(phi)

    def _pz_energy(self, pt: Floats) -> tuple[Floats, Floats]:
        have = self._parts
        energy = self._float("part_energy") if "part_energy" in have else None
        if "part_pz" in have:
            pz = self._float("part_pz")
        elif "part_rapidity" in have and "part_eta" not in have and "part_eta_rel" not in have:
            rapidity = self._float("part_rapidity")
            if energy is not None:
                return energy * np.tanh(rapidity), energy
            transverse_mass = np.hypot(pt, self._mass())
            return transverse_mass * np.sinh(rapidity), transverse_mass * np.cosh(rapidity)
        elif "part_eta" in have:
            pz = pt * np.sinh(self._float("part_eta"))
        else:
            pz = pt * np.sinh(self._float("part_eta_rel") + self.axis("jet_eta")[self.jet])
        return pz, np.hypot(np.hypot(pt, pz), self._mass()) if energy is None else energy

    def _mass(self) -> Floats | float:
        if "part_mass" in self._parts:
            return self._float("part_mass")
        return self._by_code(_mass).astype(np.float64) if "part_pdg_id" in self._parts else 0.0

    def _by_code(self, quantity: Callable[[int], float | None]) -> NDArray[Any]:
        codes = self.part("part_pdg_id")
        known, place = np.unique(codes, return_inverse=True)
        found = []
        for code in known.tolist():
            try:
                found.append(quantity(int(code)) if code == int(code) else None)
            except (ValueError, OverflowError, RuntimeError):  # NaN, infinity, what `particle` does not know
                found.append(None)
            if found[-1] is None:
                msg = f"{self._path}: 'part_pdg_id' has the code {code:.12g}, which is no particle of the PDG's"
                raise InputError(msg)
            if np.isnan(found[-1]):
                msg = (
                    f"{self._path}: 'part_pdg_id' has the code {code:.12g}, of which no mass is known. Let the column "
                    "map name part_energy or part_mass too."
                )
                raise InputError(msg)
        return np.array(found, np.float64)[place]


def _mass(code: int) -> float | None:
    """Mass in GeV; NaN where none is known."""
    from particle import Particle

    if abs(code) in (*_FORWARD, *NEUTRINOS):
        return 0.0
    mass = Particle.from_pdgid(code).mass
    return math.nan if mass is None else float(mass) / 1000


def _charge(code: int) -> float | None:
    from particle import PDGID

    if abs(code) in _FORWARD:
        return 0.0
    three = PDGID(code).three_charge if PDGID(code).is_valid else None
    return None if three is None else three / 3
