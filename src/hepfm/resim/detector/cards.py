"""The detectors that ship with hepfm, by name.

Source of every number: the CMS card of Delphes (delphes_card_CMS.tcl, commit 0ee14ba) and the card of
JetClass (jet-universe/jetclass_generation, ae722ea), which agree on the tracker and the calorimeters. The
formulas they enter are in `docs/physics-detector.md`.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hepfm.errors import InputError
from hepfm.resim.detector.description import (
    Calorimeter,
    Detector,
    EnergyResolution,
    Solenoid,
    TrackClass,
    Tracker,
)
from hepfm.resim.detector.impact_parameters import CMS_IMPACT_PARAMETERS
from hepfm.schema import unknown_name

_CMS_SOLENOID = Solenoid(radius=1.29, half_length=3.0, field=3.8)

# One entry per |eta| bin: 0-0.5, 0.5-1.5, 1.5-2.5.
_CMS_TRACKER = Tracker(
    pt_min=0.1,
    pt_turn_on=1.0,
    eta_max=(0.5, 1.5, 2.5),
    hadron=TrackClass(
        efficiency_low=(0.70, 0.70, 0.60),
        efficiency=(0.95, 0.95, 0.85),
        efficiency_high=(0.95, 0.95, 0.85),
        pt_high=1000.0,
        loss_high=0.0,
        constant=(0.06, 0.10, 0.25),
        slope=(1.3e-3, 1.7e-3, 3.1e-3),
    ),
    electron=TrackClass(
        efficiency_low=(0.73, 0.73, 0.50),
        efficiency=(0.95, 0.95, 0.83),
        efficiency_high=(0.99, 0.99, 0.90),
        pt_high=100.0,
        loss_high=0.0,
        constant=(0.03, 0.05, 0.15),
        slope=(1.3e-3, 1.7e-3, 3.1e-3),
    ),
    muon=TrackClass(
        efficiency_low=(0.75, 0.75, 0.70),
        efficiency=(0.99, 0.99, 0.98),
        efficiency_high=(0.99, 0.99, 0.98),
        pt_high=1000.0,
        loss_high=5.0e-4,
        constant=(0.01, 0.015, 0.025),
        slope=(1.0e-4, 1.5e-4, 3.5e-4),
    ),
)

# Forward edges at positive eta; the calorimeters are symmetric.
_ECAL_ENDCAP = (2.958, 3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0)
_HCAL_ENDCAP = (
    *(1.653, 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, 3.125),
    *(3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525),
)
_ONE_DEGREE, _FIVE_DEGREES, _TEN_DEGREES, _TWENTY_DEGREES = 360, 72, 36, 18


def _mirrored(edges: tuple[float, ...]) -> tuple[float, ...]:
    """The same edges at negative eta, ascending."""
    return tuple(-edge for edge in reversed(edges))


_CMS_ECAL = Calorimeter(
    # 1 degree by 0.0174 in the barrel (counted from 0) and in both endcaps (counted from their outer edges).
    eta_edges=(
        *_mirrored(_ECAL_ENDCAP),
        *(-2.958 + 0.0174 * i for i in range(1, 85)),
        *(0.0174 * i for i in range(-85, 87)),
        *(1.4964 + 0.0174 * i for i in range(1, 85)),
        *_ECAL_ENDCAP[1:],
    ),
    n_phi=(_TEN_DEGREES,) * 11 + (_ONE_DEGREE,) * 340 + (_TEN_DEGREES,) * 11,
    fractions=((11, 1.0), (22, 1.0), (111, 1.0), (310, 0.3), (3122, 0.3)),
    other_fraction=0.0,
    energy_min=0.5,
    significance_min=2.0,
    resolution=(
        EnergyResolution(1.5, constant=0.008, stochastic=0.11, noise=0.40, curvature=0.64),
        EnergyResolution(2.5, constant=0.008, stochastic=0.11, noise=0.40, scale=2.16, curvature=5.6, eta_origin=2.0),
        EnergyResolution(5.0, constant=0.107, stochastic=2.08),
    ),
)

_NEUTRINOS = (12, 14, 16)
_NEUTRALINOS = (1000022, 1000023, 1000025, 1000035, 1000045)

_CMS_HCAL = Calorimeter(
    eta_edges=(
        *(-5.0, -4.7),
        *_mirrored(_HCAL_ENDCAP),
        *(round(-1.566 + 0.087 * i, 3) for i in range(37)),
        *_HCAL_ENDCAP,
        *(4.7, 5.0),
    ),
    # The row between 1.566 and 1.653 has five degrees, its mirror image as well.
    n_phi=(_TWENTY_DEGREES,) * 2
    + (_TEN_DEGREES,) * 19
    + (_FIVE_DEGREES,) * 38
    + (_TEN_DEGREES,) * 19
    + (_TWENTY_DEGREES,) * 2,
    fractions=(
        *((pdg_id, 0.0) for pdg_id in (11, 22, 111, 13, *_NEUTRINOS, *_NEUTRALINOS)),
        *((310, 0.7), (3122, 0.7)),
    ),
    other_fraction=1.0,
    energy_min=1.0,
    significance_min=1.0,
    resolution=(
        EnergyResolution(3.0, constant=0.05, stochastic=1.5),
        EnergyResolution(5.0, constant=0.13, stochastic=2.7),
    ),
)

_CMS = Detector(
    name="cms",
    description="CMS-like particle flow: the Delphes CMS card with smeared impact parameters.",
    solenoid=_CMS_SOLENOID,
    tracker=_CMS_TRACKER,
    impact_parameters=CMS_IMPACT_PARAMETERS,
    ecal=_CMS_ECAL,
    hcal=_CMS_HCAL,
)

_JETCLASS = replace(
    _CMS,
    name="jetclass",
    description="The card of JetClass as it ran: tracks take the energy of their calorimeter tower.",
    tracker=replace(_CMS_TRACKER, keeps_smeared_momentum=False),
)

_NONE = Detector(
    name="none",
    description="No detector: every visible stable particle with |eta| < 5, as generated.",
    solenoid=_CMS_SOLENOID,
)

DETECTORS: Mapping[str, Detector] = MappingProxyType({d.name: d for d in (_CMS, _JETCLASS, _NONE)})


def get_detector(name: str) -> Detector:
    """Look up a detector by name.

    Raises:
        InputError: no detector has this name; the message lists those there are.
    """
    if name in DETECTORS:
        return DETECTORS[name]
    raise InputError(unknown_name("detector", name, DETECTORS))
