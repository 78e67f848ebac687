"""Jets from particle-flow candidates: anti-kT, selection, substructure and the columns of the dataset.

The only module that imports fastjet (please cite arXiv:1111.6097 and hep-ph/0512210 for it).
"""

from dataclasses import dataclass
from typing import Any, Self

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.kinematics import pt_eta_phi, relative_directions
from hepfm.resim.particles import Candidates
from hepfm.resim.substructure import MAX_TAU, n_subjettiness, soft_drop_mass
from hepfm.table import ragged_rows

# Otherwise the first clustering prints FastJet's banner to standard output, which scripts read. The package's
# public ClusterSequence lacks this method of FastJet's.
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

# fastjet adds up a jet in another order than we do: ask for a little more and cut on our own sums.
_PT_ROUNDING = 1e-9

_Columns = dict[str, NDArray[Any]]
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class JetSelection:
    """Which jets to find. RS3L: candidates above 1 GeV, jets above 400 GeV; JetClass: all, 500 to 1000 GeV.

    Attributes:
        radius: anti-kT radius, also R0 of soft drop and N-subjettiness.
        candidate_pt_min: candidates below this pt, in GeV, are not clustered; those of no pt never are.
        pt_min: least jet pt in GeV.
        pt_max: jets have less pt than this, in GeV; may be infinite.
        abs_eta_max: jets are within this pseudorapidity.
        soft_drop_zcut: momentum share below which soft drop removes a branch.
        soft_drop_beta: power of the angle in that condition.

    Raises:
        InputError: a setting that no jet could satisfy, or that has no meaning.
    """

    radius: float = 0.8
    candidate_pt_min: float
    pt_min: float
    pt_max: float
    abs_eta_max: float
    soft_drop_zcut: float = 0.1
    soft_drop_beta: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what fastjet would answer with nonsense."""
        if not 0 < self.radius <= np.pi / 2:
            msg = f"the jet radius must be between 0 and pi/2, not {self.radius}"
            raise InputError(msg)
        if not 0 <= self.pt_min < self.pt_max:
            msg = f"jets need 0 <= pt_min < pt_max, not pt_min = {self.pt_min} and pt_max = {self.pt_max} GeV"
            raise InputError(msg)


@dataclass(frozen=True)
class Jets:
    """Jets of a batch of events and their constituents, ready to be written; see the schema for the columns.

    Attributes:
        event: index of each jet's event in the batch, shape (J,).
        columns: `jet_*`, each of shape (J,).
        offsets: jet `j` owns the constituents `offsets[j]:offsets[j + 1]`, shape (J + 1,).
        constituents: `part_*`, each of shape (offsets[-1],), by decreasing pt within a jet.
        candidate: index of each constituent in the batch's flat candidates, shape (offsets[-1],).
    """

    event: _Ints
    columns: _Columns
    offsets: _Ints
    constituents: _Columns
    candidate: _Ints

    def __len__(self) -> int:
        """Number of jets."""
        return len(self.event)

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """Keep the jets for which `keep`, shape (J,), is true, and their constituents."""
        offsets, entries = ragged_rows(self.offsets, np.flatnonzero(keep))
        return type(self)(
            event=self.event[keep],
            columns={name: values[keep] for name, values in self.columns.items()},
            offsets=offsets,
            constituents={name: values[entries] for name, values in self.constituents.items()},
            candidate=self.candidate[entries],
        )


def find_jets(candidates: Candidates, selection: JetSelection) -> Jets:
    """Cluster the candidates of each event into anti-kT jets and describe those that pass the selection.

    Jets are ordered by event, then by decreasing pt. A jet depends on the candidates of its event alone, to
    the last bit. `jet_sdmass` and `jet_tau1` to `jet_tau4` are defined in `substructure`. Everything is
    computed in double precision and stored as the schema says.

    Args:
        candidates: a batch of events; four-momenta in GeV, impact parameters in mm.
        selection: radius and cuts.

    Raises:
        InputError: a candidate's four-momentum is not finite.
    """
    momenta = np.column_stack([candidates.px, candidates.py, candidates.pz, candidates.energy])
    if not np.isfinite(momenta).all():
        msg = "a candidate's four-momentum is not finite: look at the particles that were read or simulated"
        raise InputError(msg)
    event, candidate, offsets = _antikt(candidates, selection)

    jet_momenta = np.add.reduceat(momenta[candidate], offsets[:-1], axis=0)
    pt, eta, _ = pt_eta_phi(*jet_momenta.T[:3])
    passed = (pt >= selection.pt_min) & (pt < selection.pt_max) & (np.abs(eta) <= selection.abs_eta_max)
    order = np.lexsort((-pt, event))
    order = order[passed[order]]

    offsets, entries = ragged_rows(offsets, order)
    event, jet_momenta, candidate = event[order], jet_momenta[order], candidate[entries]
    return Jets(
        event=event,
        columns=_jet_columns(jet_momenta, momenta[candidate], offsets, selection),
        offsets=offsets,
        constituents=_constituent_columns(jet_momenta, momenta[candidate], offsets, candidates, candidate),
        candidate=candidate,
    )


def _antikt(candidates: Candidates, selection: JetSelection) -> tuple[_Ints, _Ints, _Ints]:
    """Cluster a batch of events.

    Returns:
        The event of each jet, shape (J,); the candidate that each constituent is, shape (M,), by decreasing
        pt within a jet and those of equal pt in their own order; the jets' offsets into that, shape (J + 1,).
    """
    pt = np.hypot(candidates.px, candidates.py)
    used = (pt >= selection.candidate_pt_min) & (pt > 0)
    offsets = np.concatenate([[0], np.cumsum(used)])[candidates.offsets]
    momentum = (candidates.px, candidates.py, candidates.pz, candidates.energy)
    particles = ak.contents.RecordArray(
        [ak.contents.NumpyArray(component[used]) for component in momentum], ["px", "py", "pz", "E"]
    )
    events = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), particles))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, selection.radius)
    indices = fastjet.ClusterSequence(events, definition).constituent_index(
        min_pt=selection.pt_min * (1 - _PT_ROUNDING)
    )
    # The indices count within the event, and fastjet's buffer is longer than its content: ak.flatten knows.
    jets_per_event, counts = ak.to_numpy(ak.num(indices)), ak.to_numpy(ak.num(ak.flatten(indices)))
    event = np.repeat(np.arange(len(jets_per_event)), jets_per_event)
    jet = np.repeat(np.arange(len(event)), counts)
    candidate = np.flatnonzero(used)[ak.to_numpy(ak.flatten(indices, axis=None)) + offsets[event][jet]]
    by_pt = np.lexsort((candidate, -pt[candidate], jet))
    return event, candidate[by_pt], np.concatenate([[0], np.cumsum(counts)])


def _jet_columns(jet_momenta: _Floats, momenta: _Floats, offsets: _Ints, selection: JetSelection) -> _Columns:
    """The `jet_*` columns from the jets' and their constituents' four-momenta."""
    pt, eta, phi = pt_eta_phi(*jet_momenta.T[:3])
    sdmass = soft_drop_mass(momenta, offsets, selection.radius, selection.soft_drop_zcut, selection.soft_drop_beta)
    tau = n_subjettiness(momenta, offsets, selection.radius)
    floats = {"jet_pt": pt, "jet_eta": eta, "jet_phi": phi, "jet_energy": jet_momenta[:, 3]}
    groomed = {"jet_sdmass": sdmass} | {f"jet_tau{n + 1}": tau[:, n] for n in range(MAX_TAU)}
    return {
        **{name: values.astype(np.float32) for name, values in floats.items()},
        "jet_nparticles": np.diff(offsets).astype(np.int32),
        **{name: values.astype(np.float32) for name, values in groomed.items()},
    }


def _constituent_columns(
    jet_momenta: _Floats, momenta: _Floats, offsets: _Ints, candidates: Candidates, candidate: _Ints
) -> _Columns:
    """The `part_*` columns."""
    jet = np.repeat(np.arange(len(jet_momenta)), np.diff(offsets))
    _, jet_eta, jet_phi = pt_eta_phi(*jet_momenta.T[:3])
    px, py, pz, energy = momenta.T
    floats: _Columns = {
        "part_px": px,
        "part_py": py,
        "part_pz": pz,
        "part_energy": energy,
        **relative_directions((px, py, pz), jet_eta[jet], jet_phi[jet]),
        "part_d0val": candidates.d0[candidate],
        "part_d0err": candidates.d0err[candidate],
        "part_dzval": candidates.dz[candidate],
        "part_dzerr": candidates.dzerr[candidate],
    }
    charge, pdg_id = candidates.charge[candidate], candidates.pdg_id[candidate]
    is_electron, is_muon, is_photon = np.abs(pdg_id) == 11, np.abs(pdg_id) == 13, pdg_id == 22
    return {
        **{name: values.astype(np.float32) for name, values in floats.items()},
        "part_charge": charge.astype(np.int8),
        # JetClass flags pions, kaons and protons alone; a particle flow cannot tell them from other hadrons.
        "part_isChargedHadron": (charge != 0) & ~is_electron & ~is_muon,
        "part_isNeutralHadron": (charge == 0) & ~is_photon,
        "part_isPhoton": is_photon,
        "part_isElectron": is_electron,
        "part_isMuon": is_muon,
    }
