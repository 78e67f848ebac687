"""CMS NanoAOD with particle-flow candidates (PFNano): real and simulated collisions, one row an AK8 jet.

The TTree `Events` has one entry an event. `PFCands_*` are its particle-flow candidates, `FatJet_*` its AK8 jets, and
`FatJetPFCands_jetIdx` and `FatJetPFCands_pFCandsIdx` say which candidate belongs to which jet.

Source: cms-jet/PFNano and CMS's NanoAOD documentation; verified on a real file (tests/formats/test_nanoaod.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.candidates import NOTES, constituents, event_id, offsets_of
from hepfm.formats.conversion import as_column
from hepfm.formats.damage import clear_errors, opened_root
from hepfm.formats.jet_file import JetFile
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, Column, is_constituent
from hepfm.table import JetTable

_TREE = "Events"
_COUNT = "nFatJet"
_LINKS = ("FatJetPFCands_jetIdx", "FatJetPFCands_pFCandsIdx")
_CANDIDATES = MappingProxyType(
    {
        "weight": "PFCands_puppiWeight",
        "charge": "PFCands_charge",
        "pdg_id": "PFCands_pdgId",
        "d0": "PFCands_d0",
        "d0err": "PFCands_d0Err",
        "dz": "PFCands_dz",
        "dzerr": "PFCands_dzErr",
    }
)
_MOMENTUM = ("PFCands_pt", "PFCands_eta", "PFCands_phi", "PFCands_mass")
_JETS = MappingProxyType(
    {
        "jet_pt": "FatJet_pt",
        "jet_eta": "FatJet_eta",
        "jet_phi": "FatJet_phi",
        "jet_sdmass": "FatJet_msoftdrop",
        **{f"jet_tau{n}": f"FatJet_tau{n}" for n in (1, 2, 3, 4)},
    }
)
_MASS = "FatJet_mass"
_EVENT = ("run", "luminosityBlock", "event")
_WEIGHT = "genWeight"
_NEEDED = (_COUNT, *_LINKS, *_CANDIDATES.values(), *_MOMENTUM, "FatJet_pt", "FatJet_eta", "FatJet_phi", _MASS)
_JET_PREFIX = "FatJet_"
_NOTES = (
    *NOTES,
    "jet_index is the position of the jet in its event",
    "jet_sdmass is CMS's FatJet_msoftdrop: of PUPPI jets, with corrected subjets; -1 where there are none",
    "of the event's branches only run, luminosityBlock, event and genWeight (as weight) are read, of the others those "
    "of the jets (FatJet_*)",
)


def is_nanoaod(directory: uproot.ReadOnlyDirectory) -> bool:
    """Whether a ROOT file is NanoAOD with the constituents of AK8 jets."""
    if _TREE not in directory or directory.classname_of(_TREE) != "TTree":
        return False
    names = directory[_TREE].keys()
    return all(any(name.startswith(prefix) for name in names) for prefix in ("PFCands_", "FatJetPFCands_"))


def open_nanoaod(path: Path) -> JetFile:
    """Open CMS NanoAOD with particle-flow candidates as AK8 jets.

    Raises:
        InputError: the file is damaged, no ROOT file, or lacks a branch.
    """
    tree = _tree(str(path))
    present = set(tree.keys())
    if missing := [name for name in _NEEDED if name not in present]:
        msg = (
            f"{path}: TTree {_TREE!r} has no branch {missing[0]!r}; expected NanoAOD with the particle-flow "
            "candidates of AK8 jets (PFNano)"
        )
        raise InputError(msg)
    n_jets_of = np.asarray(_array(str(path), tree, _COUNT, 0, tree.num_entries), np.int64)
    with clear_errors(f"{path}: damaged: TTree {_TREE!r} cannot be read"):
        of_jets = [_own_column(tree[name]) for name in sorted(present) if name.startswith(_JET_PREFIX)]
        of_events = [_own_column(tree[name]) for name in _EVENT if name in present]
    known = ["jet_energy", "jet_index", "jet_nparticles", *(name for name, own in _JETS.items() if own in present)]
    known += ["event_id"] * ({"run", "event"} <= present) + ["weight"] * (_WEIGHT in present)
    columns = [COLUMNS[name] for name in COLUMNS if name in known or name in CONSTITUENT_COLUMNS]
    columns += [c for c in (*of_events, *of_jets) if c is not None and c.name not in _JETS.values()]
    jet_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_jets_of)])
    return NanoAodFile(
        str(path), int(jet_offsets[-1]), tuple(columns), classes=(), notes=_NOTES, jet_offsets=jet_offsets
    )


@dataclass(frozen=True)
class NanoAodFile(JetFile):
    """A file of NanoAOD; event `i` has the jets `jet_offsets[i]` to `jet_offsets[i + 1]`."""

    jet_offsets: NDArray[np.int64] = field(kw_only=True, repr=False, compare=False)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets: the baskets that hold their events, of the branches wanted."""
        events = _Events(self.path, _tree(self.path), self.jet_offsets, start, stop)
        lists = [name for name in names if is_constituent(name)]
        axes = (events.jets("FatJet_eta"), events.jets("FatJet_phi"))
        table = constituents(self.path, events.candidate_offsets, cache(events.candidates), axes, lists)
        known = {c.name: c for c in self.columns}
        columns = {
            name: as_column(self._jet_column(events, table, name), known[name], self.path)
            for name in names
            if not is_constituent(name)
        }
        return JetTable(columns, table.offsets, {name: table.constituents[name] for name in lists})

    def _jet_column(self, events: "_Events", table: JetTable, name: str) -> NDArray[Any]:
        if name in _JETS:
            return events.jets(_JETS[name])
        if name == "jet_energy":
            pt, eta, mass = (events.jets(own).astype(np.float64) for own in ("FatJet_pt", "FatJet_eta", _MASS))
            return np.asarray(np.hypot(pt * np.cosh(eta), mass))
        if name == "jet_nparticles":
            return table.counts
        if name == "jet_index":
            return events.position
        if name == "event_id":
            return event_id(self.path, *(events.per_event(own) for own in ("run", "event")))
        if name == "weight":
            return events.per_event(_WEIGHT)
        return events.per_event(name) if name in _EVENT else events.jets(name)


class _Events:
    """The events that hold the jets `start` to `stop`, and what belongs to these jets."""

    def __init__(self, path: str, tree: uproot.TTree, jet_offsets: NDArray[np.int64], start: int, stop: int) -> None:
        self._path, self._tree = path, tree
        first, last = np.searchsorted(jet_offsets, [start, stop - 1], side="right") - 1
        self._range = (int(first), int(last) + 1) if stop > start else (0, 0)
        offsets = jet_offsets[self._range[0] : self._range[1] + 1]
        self._offsets, self._n_jets = offsets - offsets[0], int(offsets[-1] - offsets[0])
        self._jets = slice(start - int(offsets[0]), stop - int(offsets[0])) if stop > start else slice(0, 0)

    @cached_property
    def _event_of(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self._offsets) - 1), np.diff(self._offsets))

    @property
    def position(self) -> NDArray[np.int64]:
        """Of each jet in its event."""
        position: NDArray[np.int64] = np.arange(self._n_jets) - self._offsets[:-1][self._event_of]
        return position[self._jets]

    def per_event(self, branch: str) -> NDArray[Any]:
        """A number of each jet's event."""
        return np.asarray(self._array(branch))[self._event_of][self._jets]

    def jets(self, branch: str) -> NDArray[Any]:
        """A number of each jet."""
        offsets, values = self._ragged(branch)
        if not np.array_equal(offsets, self._offsets):
            msg = f"{self._path}: damaged: branch {branch!r} has another number of values than {_COUNT!r} says"
            raise InputError(msg)
        return values[self._jets]

    @cached_property
    def _links(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offsets of the jets' candidates, and which candidates of all the events' these are."""
        (entries, jet), (entries_too, candidate) = (self._ragged(branch) for branch in _LINKS)
        n_candidates, _ = self._ragged(_CANDIDATES["weight"])
        event = np.repeat(np.arange(len(entries) - 1), np.diff(entries))
        fits = np.array_equal(entries, entries_too)
        for index, offsets in ((jet, self._offsets), (candidate, n_candidates)) if fits else ():
            fits = fits and bool(np.all((index >= 0) & (index < np.diff(offsets)[event])))
        if not fits:
            msg = f"{self._path}: damaged: {' and '.join(_LINKS)} point to jets or candidates that are not there"
            raise InputError(msg)
        jet, candidate = jet + self._offsets[event], candidate + n_candidates[event]
        order = np.argsort(jet, kind="stable")
        offsets = offsets_of(jet, self._n_jets)
        ours = offsets[self._jets.start : self._jets.stop + 1]
        return ours - ours[0], candidate[order][ours[0] : ours[-1]]

    @property
    def candidate_offsets(self) -> NDArray[np.int64]:
        """Jet `i` owns the candidates `candidate_offsets[i]` to `candidate_offsets[i + 1]`."""
        return self._links[0]

    def candidates(self, name: str) -> NDArray[Any]:
        """A quantity of all the jets' candidates, by the names of `hepfm.formats.candidates`."""
        if name in _CANDIDATES:
            return self._ragged(_CANDIDATES[name])[1][self._links[1]]
        pt, eta, phi, mass = self._momenta
        if name == "energy":
            return np.asarray(np.hypot(pt * np.cosh(eta), mass))
        return np.asarray({"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}[name])

    @cached_property
    def _momenta(self) -> tuple[NDArray[np.float64], ...]:
        return tuple(self._ragged(branch)[1][self._links[1]].astype(np.float64) for branch in _MOMENTUM)

    def _ragged(self, branch: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        layout = ak.to_packed(self._array(branch)).layout
        if not isinstance(layout, ak.contents.ListOffsetArray):
            msg = f"{self._path}: branch {branch!r} must hold one list of numbers an event"
            raise InputError(msg)
        return np.asarray(layout.offsets, np.int64), np.asarray(layout.content.data)

    def _array(self, branch: str) -> ak.Array:
        return _array(self._path, self._tree, branch, *self._range)


def _tree(path: str) -> uproot.TTree:
    with clear_errors(f"{path}: no such file"):
        status = Path(path).stat()
    return _opened(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _opened(path: str, changed: int, size: int) -> uproot.TTree:
    """The tree of a file that stays as it is; kept open, for NanoAOD has 2000 branches, and uproot takes 0.5 s."""
    del changed, size
    with opened_root(path) as file:
        if _TREE not in file:
            msg = f"{path}: no TTree {_TREE!r}, which NanoAOD has; it has {', '.join(file.keys(cycle=False))}"
            raise InputError(msg)
    with clear_errors(f"{path}: damaged: TTree {_TREE!r} cannot be read"):
        return uproot.open(path)[_TREE]


def _array(path: str, tree: uproot.TTree, branch: str, start: int, stop: int) -> ak.Array:
    with clear_errors(f"{path}: damaged: branch {branch!r} cannot be read"):
        array = tree[branch].array(entry_start=start, entry_stop=stop)
    if len(array) != stop - start:
        msg = f"{path}: damaged: branch {branch!r} holds {len(array)} of the events {start} to {stop}"
        raise InputError(msg)
    return array


def _own_column(branch: uproot.TBranch) -> Column | None:
    """The further column that a branch can be; none if it holds no numbers."""
    interpretation = branch.interpretation
    content = interpretation.content if isinstance(interpretation, uproot.AsJagged) else interpretation
    if not isinstance(content, uproot.AsDtype) or content.to_dtype.kind not in "biuf" or content.to_dtype.shape:
        return None
    return Column(branch.name, content.to_dtype.newbyteorder("=").name, "", branch.title or "as in the file")
