"""What a jet comes from: frozen resonances and partons as targets, and jets matched to them.

Classes follow JetClass (arXiv:2202.03772), flavours the jet types of RS3L (Zenodo 10633815).
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hepfm.kinematics import pt_eta_phi
from hepfm.resim.clustering import Jets
from hepfm.resim.hard import HardEvents
from hepfm.resim.particles import Ragged
from hepfm.resim.shower import Gluons
from hepfm.schema import JET_CLASSES, JET_FLAVOURS

# A target has at most the four quarks of H → WW → 4q to contain.
_MAX_PRONGS = 4
_NO_CLASS = -1
_QCD, _HBB, _HCC, _HGG, _H4Q, _HQQL, _ZQQ, _WQQ, _TBQQ, _TBL = range(len(JET_CLASSES))
_OTHER, _Q, _C, _B = (JET_FLAVOURS[name] for name in ("other", "q", "c", "b"))
_F_HBB, _F_W, _F_ZQQ, _F_ZBB, _F_TOP, _F_GLUON = (JET_FLAVOURS[name] for name in ("Hbb", "W", "Zqq", "Zbb", "top", "g"))


_Longs = NDArray[np.int64]
_Ints = NDArray[np.int32]
_Bytes = NDArray[np.int8]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Targets(Ragged):
    """The frozen particles of each event that a jet can come from.

    These are outgoing quarks (up to b) and gluons that come from no resonance, in the order of the
    record, then top quarks, Higgs, W and Z bosons that decay to one of the ten classes.

    Attributes:
        pdg_id: which particle.
        label: index into JET_CLASSES.
        flavour: jet flavour; `g` for every gluon, before its shower is known.
        gluon: for a gluon, its number among those of the event that leave the collision itself, else -1.
        pt: in GeV.
        eta: pseudorapidity.
        phi: in radians.
        prong_eta: directions of the quarks and charged leptons of its decay (a parton: its own), nan
            where there are fewer, shape (T, 4).
        prong_phi: in radians, shape (T, 4).
    """

    pdg_id: NDArray[np.int32]
    label: NDArray[np.int8]
    flavour: NDArray[np.int8]
    gluon: NDArray[np.int32]
    pt: NDArray[np.float64]
    eta: NDArray[np.float64]
    phi: NDArray[np.float64]
    prong_eta: NDArray[np.float64]
    prong_phi: NDArray[np.float64]


def find_targets(events: HardEvents, label: str | None = None) -> Targets:
    """Find what jets can come from in frozen events.

    Args:
        events: E frozen events.
        label: keep the targets of this class only.
    """
    offsets, index, labels, flavours, gluons, prongs = _find_targets(
        events.offsets, events.pdg_id, events.status, events.mother1
    )
    pt, eta, phi = pt_eta_phi(events.px, events.py, events.pz)
    targets = Targets(
        offsets=offsets,
        pdg_id=events.pdg_id[index],
        label=labels,
        flavour=flavours,
        gluon=gluons,
        pt=pt[index],
        eta=eta[index],
        phi=phi[index],
        prong_eta=np.where(prongs >= 0, eta[prongs], np.nan),
        prong_phi=np.where(prongs >= 0, phi[prongs], np.nan),
    )
    return targets if label is None else targets.select(targets.label == JET_CLASSES.index(label))


def match_jets(
    jets: Jets, targets: Targets, radius: float, match_radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match jets to targets, one to one.

    A jet matches a target if the target lies within `match_radius` of its axis and all the target's
    prongs within `radius`, in (eta, phi). Pairs are formed from the closest on, per event.

    Args:
        jets: jets of E events.
        targets: targets of the same events.
        radius: the jets' radius.
        match_radius: largest distance between jet and target.

    Returns:
        Indices of the matched jets, ascending, and of their targets, both of shape (K,).
    """
    first_jet = np.searchsorted(jets.event, np.arange(targets.n_events + 1))
    target = _match(
        first_jet,
        jets.columns["jet_eta"].astype(float),
        jets.columns["jet_phi"].astype(float),
        targets.offsets,
        targets.eta,
        targets.phi,
        targets.prong_eta,
        targets.prong_phi,
        radius,
        match_radius,
    )
    matched = np.flatnonzero(target >= 0)
    return matched, target[matched]


def target_flavours(targets: Targets, gluons: Gluons) -> NDArray[np.int8]:
    """Flavours of the targets in one view, where the shower has decided on the gluons', shape (T,)."""
    flavours = targets.flavour.copy()
    is_gluon = targets.gluon >= 0
    events = np.repeat(np.arange(targets.n_events), targets.counts)
    flavours[is_gluon] = gluons.flavour[(gluons.offsets[events] + targets.gluon)[is_gluon]]
    return flavours


@njit(cache=True)
def _find_targets(
    offsets: _Longs, pdg_id: _Ints, status: _Ints, mother1: _Ints
) -> tuple[_Longs, _Longs, _Bytes, _Bytes, _Ints, _Longs]:
    """Offsets, particle, class, flavour, gluon number and prongs (-1 for none) of all targets."""
    n_particles = len(pdg_id)
    target_offsets = np.zeros(len(offsets), np.int64)
    index = np.empty(n_particles, np.int64)
    labels = np.empty(n_particles, np.int8)
    flavours = np.empty(n_particles, np.int8)
    gluons = np.full(n_particles, -1, np.int32)
    prongs = np.full((n_particles, _MAX_PRONGS), -1, np.int64)
    owner = np.full(n_particles, -1, np.int64)  # the resonance that a particle descends from
    n = 0
    for event in range(len(offsets) - 1):
        first, last = offsets[event], offsets[event + 1]
        n_gluons = 0
        for i in range(first, last):
            if status[i] == -1:
                continue
            mother = first + mother1[i] - 1
            if mother1[i] > 0 and owner[mother] >= 0:
                owner[i] = owner[mother]
                continue
            kind = abs(pdg_id[i])
            if status[i] == 2 and (kind == 6 or 23 <= kind <= 25):
                owner[i] = i
            elif status[i] == 1 and (kind <= 5 or kind == 21):
                index[n], labels[n], flavours[n] = i, _QCD, _parton_flavour(kind)
                prongs[n, 0] = i
                if kind == 21 and mother1[i] > 0 and status[mother] == -1:
                    gluons[n] = n_gluons
                    n_gluons += 1
                n += 1
        for i in range(first, last):
            if owner[i] != i:
                continue
            n_prongs, label, flavour = _decay(i, last, pdg_id, status, owner, prongs[n])
            if label != _NO_CLASS:
                index[n], labels[n], flavours[n] = i, label, flavour
                n += 1
            else:
                prongs[n, :n_prongs] = -1
        target_offsets[event + 1] = n
    return (
        target_offsets,
        index[:n].copy(),
        labels[:n].copy(),
        flavours[:n].copy(),
        gluons[:n].copy(),
        prongs[:n].copy(),
    )


@njit(cache=True)
def _parton_flavour(kind: int) -> int:
    if kind == 21:
        return _F_GLUON
    return _B if kind == 5 else _C if kind == 4 else _Q


@njit(cache=True)
def _decay(
    resonance: int, last: int, pdg_id: _Ints, status: _Ints, owner: _Longs, prongs: _Longs
) -> tuple[int, int, int]:
    """Number of prongs, class and flavour of a resonance's decay; the prongs go into `prongs`."""
    n_quarks = n_b = n_c = n_gluons = n_leptons = n_taus = n_prongs = 0
    for i in range(resonance + 1, last):
        if owner[i] != resonance or status[i] != 1:
            continue
        kind = abs(pdg_id[i])
        if kind <= 5:
            n_quarks += 1
            n_b += kind == 5
            n_c += kind == 4
        elif kind == 21:
            n_gluons += 1
        elif kind == 11 or kind == 13:
            n_leptons += 1
        elif kind == 15:
            n_taus += 1
        else:
            continue  # neutrinos and photons leave no prong
        if n_prongs < _MAX_PRONGS:
            prongs[n_prongs] = i
        n_prongs += 1
    n_prongs = min(n_prongs, _MAX_PRONGS)
    if n_taus > 0:
        return n_prongs, _NO_CLASS, _OTHER
    kind = abs(pdg_id[resonance])
    quarks_only = n_leptons == 0 and n_gluons == 0
    if kind == 6:
        if quarks_only and n_quarks == 3:
            return n_prongs, _TBQQ, _F_TOP
        if n_quarks == 1 and n_leptons == 1:
            return n_prongs, _TBL, _F_TOP
    elif kind == 25:
        if quarks_only and n_quarks == 2 and n_b == 2:
            return n_prongs, _HBB, _F_HBB
        if quarks_only and n_quarks == 2 and n_c == 2:
            return n_prongs, _HCC, _OTHER
        if n_gluons == 2 and n_quarks == 0 and n_leptons == 0:
            return n_prongs, _HGG, _OTHER
        if quarks_only and n_quarks == 4:
            return n_prongs, _H4Q, _OTHER
        if n_quarks == 2 and n_leptons == 1:
            return n_prongs, _HQQL, _OTHER
    elif quarks_only and n_quarks == 2:
        if kind == 24:
            return n_prongs, _WQQ, _F_W
        return n_prongs, _ZQQ, _F_ZBB if n_b == 2 else _F_ZQQ
    return n_prongs, _NO_CLASS, _OTHER


@njit(cache=True)
def _match(
    first_jet: _Longs,
    jet_eta: _Floats,
    jet_phi: _Floats,
    offsets: _Longs,
    eta: _Floats,
    phi: _Floats,
    prong_eta: _Floats,
    prong_phi: _Floats,
    radius: float,
    match_radius: float,
) -> _Longs:
    """Target of each jet, -1 for none."""
    target_of = np.full(len(jet_eta), -1, np.int64)
    taken = np.zeros(len(eta), np.bool_)
    for event in range(len(offsets) - 1):
        while True:
            best, best_jet, best_target = match_radius, -1, -1
            for j in range(first_jet[event], first_jet[event + 1]):
                if target_of[j] >= 0:
                    continue
                for t in range(offsets[event], offsets[event + 1]):
                    distance = _distance(jet_eta[j], jet_phi[j], eta[t], phi[t])
                    if taken[t] or distance >= best:
                        continue
                    if _contains(jet_eta[j], jet_phi[j], prong_eta[t], prong_phi[t], radius):
                        best, best_jet, best_target = distance, j, t
            if best_jet < 0:
                break
            target_of[best_jet] = best_target
            taken[best_target] = True
    return target_of


@njit(cache=True)
def _contains(jet_eta: float, jet_phi: float, prong_eta: _Floats, prong_phi: _Floats, radius: float) -> bool:
    for k in range(len(prong_eta)):
        if not np.isnan(prong_eta[k]) and _distance(jet_eta, jet_phi, prong_eta[k], prong_phi[k]) >= radius:
            return False
    return True


@njit(cache=True)
def _distance(eta_a: float, phi_a: float, eta_b: float, phi_b: float) -> float:
    delta_phi = (phi_a - phi_b + math.pi) % (2.0 * math.pi) - math.pi
    return math.sqrt((eta_a - eta_b) ** 2 + delta_phi**2)
