"""What a detector is made of: frozen records of numbers, without behaviour.

The numbers themselves are in `cards.py`. Energies and momenta in GeV, lengths as stated.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from hepfm.errors import InputError


@dataclass(frozen=True)
class Solenoid:
    """The tracking volume: a cylinder about the beam axis in a uniform field along it.

    Attributes:
        radius: in m; the barrel calorimeters begin here.
        half_length: in m; the endcaps begin here.
        field: in T.
    """

    radius: float
    half_length: float
    field: float

    def __post_init__(self) -> None:
        """Raise InputError unless all three are positive."""
        if not (self.radius > 0 and self.half_length > 0 and self.field > 0):
            msg = f"a solenoid needs a positive radius, half_length and field, not {self}"
            raise InputError(msg)


@dataclass(frozen=True)
class TrackClass:
    """How tracks of one kind are found and measured; each tuple has one entry per |eta| bin of the tracker.

    Attributes:
        efficiency_low: between the tracker's `pt_min` and `pt_turn_on`.
        efficiency: between `pt_turn_on` and `pt_high`.
        efficiency_high: above `pt_high`, times exp(-loss_high (pt - pt_high)).
        pt_high: in GeV.
        loss_high: in 1/GeV.
        constant: a of the relative resolution a ⊕ b pt.
        slope: b, in 1/GeV.
    """

    efficiency_low: tuple[float, ...]
    efficiency: tuple[float, ...]
    efficiency_high: tuple[float, ...]
    pt_high: float
    loss_high: float
    constant: tuple[float, ...]
    slope: tuple[float, ...]


@dataclass(frozen=True)
class Tracker:
    """Efficiency and momentum resolution of charged particles.

    Both are functions of the generated pt and of |eta| of the point where the particle meets the calorimeter.

    Attributes:
        pt_min: nothing is found at or below.
        pt_turn_on: end of the low-pt efficiency.
        eta_max: upper edges of the |eta| bins; nothing is found beyond the last.
        hadron: every charged particle that is no electron or muon.
        electron: |pdg_id| 11.
        muon: |pdg_id| 13.
        keeps_smeared_momentum: if false, found tracks get their generated momentum back with no error, after
            the impact parameters are smeared.
    """

    pt_min: float
    pt_turn_on: float
    eta_max: tuple[float, ...]
    hadron: TrackClass
    electron: TrackClass
    muon: TrackClass
    keeps_smeared_momentum: bool = True


@dataclass(frozen=True)
class ImpactParameters:
    """Gaussian errors of d0 and dz, in steps of smeared pt and of |eta| of the momentum.

    Attributes:
        pt_edges: lower edges of the pt bins (lo, hi]; the last bin is open. Below the first: no smearing.
        eta_edges: edges of the |eta| bins (lo, hi]. Outside: no smearing.
        d0: errors in mm, one row per |eta| bin, one entry per pt bin.
        dz: likewise.
    """

    pt_edges: tuple[float, ...]
    eta_edges: tuple[float, ...]
    d0: tuple[tuple[float, ...], ...]
    dz: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EnergyResolution:
    """Energy resolution of towers whose centre has |eta| <= `eta_max`.

    sigma(E) = (scale + curvature (|eta| - eta_origin)^2) sqrt((constant E)^2 + stochastic^2 E + noise^2).
    """

    eta_max: float
    constant: float
    stochastic: float
    noise: float = 0.0
    scale: float = 1.0
    curvature: float = 0.0
    eta_origin: float = 0.0


@dataclass(frozen=True)
class Calorimeter:
    """A calorimeter: its towers, what particles leave in it, and how well it measures.

    Attributes:
        eta_edges: edges of the rows of towers, ascending. Towers are (lo, hi] in eta and in phi.
        n_phi: towers around each row, one even number per row; shape (len(eta_edges) - 1,).
        fractions: (|pdg_id|, share of the energy deposited here) of special particles.
        other_fraction: share of all others.
        energy_min: a tower, and a neutral excess in it, count only above this energy.
        significance_min: and only above this many standard deviations.
        resolution: by |eta|, in ascending order of `eta_max`.
    """

    eta_edges: tuple[float, ...] = field(repr=False)
    n_phi: tuple[int, ...] = field(repr=False)
    fractions: tuple[tuple[int, float], ...]
    other_fraction: float
    energy_min: float
    significance_min: float
    resolution: tuple[EnergyResolution, ...]

    def __post_init__(self) -> None:
        """Raise InputError if the rows of towers make no sense."""
        edges = self.eta_edges
        if len(self.n_phi) != len(edges) - 1 or any(n <= 0 or n % 2 for n in self.n_phi):
            msg = f"a calorimeter with {len(edges)} eta_edges needs {len(edges) - 1} even, positive n_phi"
            raise InputError(msg)
        if any(lo >= hi for lo, hi in pairwise(edges)):
            msg = "a calorimeter's eta_edges must ascend"
            raise InputError(msg)


@dataclass(frozen=True)
class Detector:
    """What stands between stable particles and the candidates that jets are made of.

    With no tracker and no calorimeters, the detector is ideal: every visible particle is a candidate.

    Attributes:
        name: as given on the command line.
        description: one line for people.
        solenoid: where charged particles bend.
        eta_max: of an ideal detector. The others see what their towers cover.
        tracker: momentum and efficiency of tracks.
        impact_parameters: errors of d0 and dz; None leaves them true, with errors 0.
        ecal: the electromagnetic calorimeter, which sees tracks first and emits photons.
        hcal: the hadronic one, which emits neutral hadrons.
    """

    name: str
    description: str
    solenoid: Solenoid
    eta_max: float = 5.0
    tracker: Tracker | None = None
    impact_parameters: ImpactParameters | None = field(default=None, repr=False)
    ecal: Calorimeter | None = None
    hcal: Calorimeter | None = None

    def __post_init__(self) -> None:
        """Raise InputError if only a part of tracker, ecal and hcal is given."""
        parts = (self.tracker, self.ecal, self.hcal)
        if any(part is None for part in parts) and any(part is not None for part in parts):
            msg = f"detector '{self.name}' needs all of tracker, ecal and hcal, or none of them"
            raise InputError(msg)
