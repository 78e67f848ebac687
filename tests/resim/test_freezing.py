"""Freezing changes no physics: frozen and showered events against Pythia in one go."""

from dataclasses import replace
from functools import cache

import awkward as ak
import numpy as np
import pytest
import pythia8mc
from scipy.stats import ks_2samp

from hepfm.resim.clustering import JetSelection, find_jets
from hepfm.resim.detector import simulate
from hepfm.resim.generator import Beams
from hepfm.resim.hard import HardEvents, generate
from hepfm.resim.labels import find_targets
from hepfm.resim.particles import Particles, charges
from hepfm.resim.processes import PROCESSES
from hepfm.resim.shower import shower
from hepfm.resim.variations import VARIATIONS

PT_HAT_MIN = "PhaseSpace:pTHatMin = 350"
NOMINAL: tuple[str, ...] = ()
MPI_OFF = ("PartonLevel:MPI = off",)
VINCIA = (*VARIATIONS["vincia"].settings, "PartonLevel:MPI = off")  # with it, an event takes a tenth of a second
LEADING_JET = JetSelection(candidate_pt_min=0.0, pt_min=20.0, pt_max=float("inf"), abs_eta_max=5.0)

# The underlying event takes three quarters of the time, and hides what the others do.
WITH_UNDERLYING_EVENT = ("QCD", "Hgg", "Tbqq")
SAMPLES = [(process, NOMINAL if process in WITH_UNDERLYING_EVENT else MPI_OFF) for process in PROCESSES]
SAMPLES += [("QCD", VINCIA), ("Tbqq", VINCIA)]
OBSERVABLES = (
    "particles",
    "charged particles",
    "central pt",
    "transverse sphericity",
    "jet pt",
    "jet mass",
    "jet constituents",
)
# Seeds are fixed, so this decides once and for all; one of a thousand such suites would fail it by chance.
LEAST_P_VALUE = 0.001 / (len(SAMPLES) * len(OBSERVABLES))


def n_events(settings: tuple[str, ...]) -> int:
    return 100 if settings == VINCIA else 250


class Selection(pythia8mc.UserHooks):
    """Makes Pythia itself drop hard processes without the decay that a process of the catalogue asks for."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def canVetoProcessLevel(self) -> bool:  # noqa: N802
        return True

    def doVetoProcessLevel(self, process: pythia8mc.Event) -> bool:  # noqa: N802
        out = [abs(p.id()) for p in process if p.isFinal()]
        quarks, light_leptons = sum(i <= 5 for i in out), out.count(11) + out.count(13)
        # The other decays are all that the settings allow.
        wanted = {"Zqq": quarks == 2, "Hqql": quarks == 2 and light_leptons == 1}
        return not wanted.get(self.label, True)


@cache
def in_one_go(process: str, settings: tuple[str, ...]) -> Particles:
    """Events of Pythia from the hard process to the hadrons, without any of hepfm's generation."""
    pythia = pythia8mc.Pythia("", False)
    for line in (
        *PROCESSES[process].settings,
        PT_HAT_MIN,
        "Beams:eCM = 13000",
        "ParticleDecays:limitTau0 = on",
        "ParticleDecays:tau0Max = 10",
        "Random:setSeed = on",
        "Random:seed = 1234",
        "Print:quiet = on",
        *settings,
    ):
        assert pythia.readString(line)
    hook = Selection(process)
    pythia.setUserHooksPtr(hook)
    assert pythia.init()
    records = ak.drop_none(pythia.nextBatch(n_events(settings), "none"), axis=0).prt
    final = records[records.status > 0]
    flat = ak.flatten(final)
    pdg_id = np.asarray(flat.id)
    return Particles(
        offsets=np.concatenate([[0], np.cumsum(np.asarray(ak.num(final)))]),
        pdg_id=pdg_id,
        charge=charges(pdg_id),
        px=np.asarray(flat.p.px),
        py=np.asarray(flat.p.py),
        pz=np.asarray(flat.p.pz),
        energy=np.asarray(flat.p.e),
        mass=np.asarray(flat.m),
        **dict.fromkeys(("x", "y", "z"), np.zeros(len(pdg_id))),
    )


@cache
def frozen_events(process: str, n: int) -> HardEvents:
    source = PROCESSES[process]

    def accept(events: HardEvents) -> np.ndarray:
        return find_targets(events, source.label).counts == source.n_targets

    return generate((*source.settings, PT_HAT_MIN), Beams(), 99, np.arange(n), accept)


def frozen_and_showered(process: str, settings: tuple[str, ...]) -> Particles:
    """The same, with the hard process frozen in between."""
    return shower(frozen_events(process, n_events(settings)), settings, 7, "test").particles


def observables(particles: Particles) -> dict[str, np.ndarray]:
    """What is compared, each of shape (E,)."""
    starts = particles.offsets[:-1]
    pt = np.hypot(particles.px, particles.py)
    with np.errstate(divide="ignore"):
        central = np.abs(np.arcsinh(particles.pz / pt)) < 2.5
    xx, yy, xy = (
        np.add.reduceat(a * b * central, starts)
        for a, b in ((particles.px,) * 2, (particles.py,) * 2, (particles.px, particles.py))
    )
    seeds = np.arange(particles.n_events).astype(np.uint64)
    jets = find_jets(simulate(particles, "none", seeds), LEADING_JET)
    pt_order = np.lexsort((-jets.columns["jet_pt"], jets.event))
    leading = pt_order[np.unique(jets.event[pt_order], return_index=True)[1]]
    return {
        "particles": particles.counts,
        "charged particles": np.add.reduceat((particles.charge != 0).astype(int), starts),
        "central pt": np.add.reduceat(pt * central, starts),
        "transverse sphericity": 1 - np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy),
        "jet pt": jets.columns["jet_pt"][leading],
        "jet mass": jets.columns["jet_sdmass"][leading],
        "jet constituents": jets.columns["jet_nparticles"][leading],
    }


def p_values(first: Particles, second: Particles) -> dict[str, float]:
    a, b = observables(first), observables(second)
    assert tuple(a) == OBSERVABLES
    return {name: float(ks_2samp(a[name], b[name]).pvalue) for name in OBSERVABLES}


@pytest.mark.parametrize(
    ("process", "settings"), SAMPLES, ids=[f"{p}-{'vincia' if s == VINCIA else 'default'}" for p, s in SAMPLES]
)
def test_frozen_events_are_showered_into_what_pythia_makes_in_one_go(process: str, settings: tuple[str, ...]) -> None:
    found = p_values(in_one_go(process, settings), frozen_and_showered(process, settings))
    assert min(found.values()) > LEAST_P_VALUE, found


def test_comparison_would_notice_a_missing_underlying_event() -> None:
    found = p_values(in_one_go("Hgg", NOMINAL), frozen_and_showered("Hgg", MPI_OFF))
    assert found["particles"] < LEAST_P_VALUE
    assert found["charged particles"] < LEAST_P_VALUE


def test_comparison_would_notice_more_radiation() -> None:
    found = p_values(
        in_one_go("Hgg", MPI_OFF), frozen_and_showered("Hgg", ("TimeShower:renormMultFac = 0.2", *MPI_OFF))
    )
    assert found["jet constituents"] < LEAST_P_VALUE


def test_comparison_would_notice_a_lost_starting_scale() -> None:
    lost = replace(frozen_events("QCD", 250), scale=np.full(250, 20.0))
    found = p_values(in_one_go("QCD", MPI_OFF), shower(lost, MPI_OFF, 7, "test").particles)
    assert min(found.values()) < LEAST_P_VALUE


def test_comparison_would_notice_another_decay() -> None:
    found = p_values(in_one_go("Hgg", MPI_OFF), frozen_and_showered("Hbb", MPI_OFF))
    assert found["jet constituents"] < LEAST_P_VALUE
