"""RS3L's HDF5 files (arXiv:2403.07066; Zenodo 10633815): all views of a jet side by side.

`singletons` [event, view, variable]: 0 jet type, 9 to 12 jet pt, eta, phi, energy, 13 soft-drop mass. The meaning of
the others is not public; they are 0 in what is written here. `jet_pflow_cands` [event, view, feature, candidate]: log
pt, log of pt over the jet's, eta and phi relative to the jet, their distance, log energy, log of energy over the jet's,
charge, particle code, tanh d0, tanh dz; zeros where there is no candidate.

Written in double precision, so that four-momenta come back to the last bit. Beside the two arrays, `hepfm/<column>`
[event, view] holds the jets' other columns; RS3L's readers do not look at it.

Source: layout, jet types and views as public code reads the set; features as RS3L's authors compute them; 13 by the
order of their branches (pt, eta, phi, e, msd, n2).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.arrays import array, piecewise, rows, texts, writing
from hepfm.formats.conversion import as_column, check_names, datasets, falling_pt
from hepfm.formats.damage import opened_hdf5
from hepfm.formats.jet_file import JetFile
from hepfm.kinematics import pt_eta_phi, wrapped
from hepfm.padding import padded, ragged
from hepfm.schema import COLUMNS, JET_CLASSES, TYPE_FLAGS, Column, is_constituent
from hepfm.table import JetTable

_COUNTS = "n_candidates"
_N_SINGLETONS = 15
_SINGLETONS = {"jet_flavour": 0, "jet_pt": 9, "jet_eta": 10, "jet_phi": 11, "jet_energy": 12}
_SDMASS = 13
FEATURES = ("pt", "relpt", "eta", "phi", "dr", "e", "rele", "charge", "pdgid", "d0", "dz")
"""What `jet_pflow_cands` has of each candidate, in order."""

PUBLISHED_VIEWS = ("nominal", "seed", "fsrRenHi", "fsrRenLo", "herwig")
"""The views of the published set, by its authors' names: muR of final-state radiation lower in Hi, higher in Lo."""

_EXACT = ("part_px", "part_py", "part_pz", "part_energy", "part_charge")
_ROUNDED = ("part_deta", "part_dphi", "part_d0val", "part_dzval")
_CONSTITUENTS = (*_EXACT, *TYPE_FLAGS, *_ROUNDED)
_NEEDED = (*_EXACT, *TYPE_FLAGS, "part_d0val", "part_dzval")

# Particle codes as Delphes gives them to RS3L's authors: 0 for a neutral hadron. A charged particle of no type is a
# hadron but no pion, kaon or proton; the authors' code for charged hadrons accepts hyperons.
_CODES = {"part_isChargedHadron": 211, "part_isNeutralHadron": 0, "part_isPhoton": 22, "part_isElectron": -11}
_CODES |= {"part_isMuon": -13}
_HYPERON = 3112
_KINDS = {
    "part_isChargedHadron": (211, 321, 2212),
    "part_isNeutralHadron": (0, 130, 2112),
    "part_isPhoton": (22,),
    "part_isElectron": (11,),
    "part_isMuon": (13,),
}


def left_out(columns: Iterable[str]) -> tuple[str, ...]:
    """Say in sentences what of some columns does not come back from a file."""
    lost = [name for name in columns if name.startswith("part_") and name not in _CONSTITUENTS]
    return (
        *[f"not carried: {', '.join(lost)}"] * bool(lost),
        "part_deta and part_dphi come back to 1e-6, for they are made of the momenta",
        "part_d0val and part_dzval come back through tanh: exactly up to 8 mm, and as 18.7 mm from there on",
        "a neutral candidate of no type comes back as a neutral hadron",
        "constituents beyond the number of candidates are dropped, those of lowest pt",
        "readers of RS3L take candidates below 1 GeV for padding, for the logarithm of their pt is negative",
        "a jet that is missing in one of the views is left out in all of them",
    )


def write_rs3l(
    path: Path,
    blocks: Iterable[Sequence[JetTable]],
    n_constituents: int = 200,
    classes: Sequence[str] = JET_CLASSES,
) -> int:
    """Write views of the same jets side by side, in constant memory.

    Args:
        path: where the file goes; an existing one is replaced.
        blocks: some jets at a time: a table for each view, whose rows are the same jets in the same order.
        n_constituents: candidates a jet; the published set has room for 200.
        classes: names of what `jet_label` is an index of.

    Returns:
        How many constituents did not fit; the file has it as the attribute `n_cut`.

    Raises:
        InputError: no jets, a column that the format needs is missing or has a name that it needs itself, or the views
            of a block do not match.
        StorageError: the file could not be written.
    """
    n_cut = n_views = 0
    variations: dict[str, None] = {}
    processes: dict[str, None] = {}
    with writing(path) as file:
        for views in blocks:
            _check(path, views, n_views)
            n_views = len(views)
            file.append("singletons", np.stack([_singletons(view) for view in views], axis=1))
            candidates = np.stack([_candidates(path, view, n_constituents) for view in views], axis=1)
            file.append("jet_pflow_cands", candidates, features=list(FEATURES))
            kept = [np.minimum(view.counts, n_constituents) for view in views]
            file.append(f"hepfm/{_COUNTS}", np.stack(kept, axis=1).astype(np.int32))
            for name in views[0].columns:
                if name not in _SINGLETONS:
                    file.append(f"hepfm/{name}", np.stack([view.columns[name] for view in views], axis=1))
            for view in views:
                variations |= dict.fromkeys(np.unique(view.columns.get("variation", ())).tolist())
                processes |= dict.fromkeys(np.unique(view.columns.get("process", ())).tolist())
            n_cut += sum(int(np.maximum(view.counts - n_constituents, 0).sum()) for view in views)
        if not n_views:
            msg = f"{path}: nothing to write: no jets were given"
            raise InputError(msg)
        named = {"variation": list(variations), "process": list(processes), "classes": list(classes)}
        file.attributes.update({"n_cut": n_cut, **{name: words for name, words in named.items() if words}})
    return n_cut


def is_rs3l(file: h5py.File) -> bool:
    """Whether an HDF5 file has RS3L's two arrays."""
    return {"singletons", "jet_pflow_cands"} <= set(file)


def open_rs3l(path: Path) -> JetFile:
    """Open one of RS3L's files, or one that `write_rs3l` wrote.

    Rows are ordered by view: all jets of view 0, then those of view 1. Where the file says no more, an event's number
    is its row, and five views have the names of the published ones.

    Raises:
        InputError: the file is damaged, or not of this layout.
    """
    with opened_hdf5(path) as file:
        singletons, candidates = array(file, path, "singletons", 3), array(file, path, "jet_pflow_cands", 4)
        n_events, n_views, n_variables = singletons.shape
        expected = (n_events, n_views, len(FEATURES))
        if candidates.shape[:3] != expected or n_variables <= max(_SINGLETONS.values()):
            msg = (
                f"{path}: not of RS3L's layout: /singletons has shape {singletons.shape}, /jet_pflow_cands "
                f"{candidates.shape}; expected (events, views, 13 or more) and (events, views, 11, candidates)"
            )
            raise InputError(msg)
        _check_features(path, file, n_events)
        held = datasets(file.get("hepfm"))
        beside = {name: array(file, path, f"hepfm/{name}", 2).dtype for name in held if name != _COUNTS}
        ours = _COUNTS in held
        n_cut = int(file.attrs.get("n_cut", 0))
        variations, processes, classes = (texts(file.attrs, name) for name in ("variation", "process", "classes"))
    notes = ["part_deta and part_dphi are made of the momenta; d0 and dz come through tanh, 18.7 mm is that or more"]
    if n_cut:
        notes.append(f"{n_cut} constituents were dropped when the file was written")
    derived: tuple[str, ...] = ()
    if not ours:
        derived = ("event_id", "jet_index", "view", "variation")
        published = n_views == len(PUBLISHED_VIEWS)
        variations = PUBLISHED_VIEWS if published else tuple(f"view-{view}" for view in range(n_views))
        processes, classes = (), ()
        notes.append(
            "event_id is the row, for the file numbers no events; the views are called "
            + ("as in the published set" if published else "by their position")
        )
    names = {*derived, *_SINGLETONS, *_CONSTITUENTS}
    extra = {n: Column(n, "str" if t.kind == "S" else t.name, "", "as in the file") for n, t in beside.items()}
    columns = [c for name, c in COLUMNS.items() if name in names or name in beside]
    columns += [c for name, c in extra.items() if name not in COLUMNS]
    return Rs3lFile(
        str(path),
        n_events * n_views,
        tuple(columns),
        variations,
        processes,
        classes if "jet_label" in beside else (),
        tuple(notes),
        n_events=n_events,
        beside=tuple(beside),
        ours=ours,
    )


@dataclass(frozen=True)
class Rs3lFile(JetFile):
    """One of RS3L's files.

    Attributes:
        n_events: rows of its arrays.
        beside: columns that hepfm wrote beside the two arrays.
        ours: whether hepfm wrote it.
    """

    n_events: int = field(kw_only=True)
    beside: tuple[str, ...] = field(kw_only=True)
    ours: bool = field(kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets, of one view after the other."""
        if start == stop:
            return JetTable.empty([c for c in self.columns if c.name in names]).only(names)
        pieces = []
        with opened_hdf5(self.path) as file:
            for view in range(start // self.n_events, (stop - 1) // self.n_events + 1):
                shift = view * self.n_events
                read = partial(self._read_view, file, names, view)
                pieces.append(piecewise(read, max(start - shift, 0), min(stop - shift, self.n_events)))
        return JetTable.concatenate(pieces)

    def _read_view(self, file: h5py.File, names: Sequence[str], view: int, start: int, stop: int) -> JetTable:
        known = {c.name: c for c in self.columns}
        part = slice(start, stop)
        which = (part, view)
        singletons = rows(file, self.path, "singletons", which, 3).astype(np.float64)
        columns: dict[str, NDArray[Any]] = {}
        for name in names:
            if name in self.beside:
                values = rows(file, self.path, f"hepfm/{name}", which, 2)
            elif name in _SINGLETONS:
                values = singletons[:, _SINGLETONS[name]]
            elif name not in _CONSTITUENTS:
                values = self._derived(name, view, part)
            else:
                continue
            columns[name] = as_column(values, known[name], self.path)
        counts = rows(file, self.path, f"hepfm/{_COUNTS}", which, 2) if self.ours else None
        if counts is not None and not any(map(is_constituent, names)):
            return JetTable(columns, np.cumsum([0, *counts], dtype=np.int64), {})
        features = rows(file, self.path, "jet_pflow_cands", which, 4).astype(np.float64, copy=False).transpose(0, 2, 1)
        if counts is not None:
            mask = np.arange(features.shape[1]) < counts[:, np.newaxis]
        else:
            mask = (features[..., FEATURES.index("pt")] != 0) | (features[..., FEATURES.index("e")] != 0)
        offsets, flat = ragged(features, mask)
        jet = np.repeat(np.arange(len(mask)), np.diff(offsets))
        values_of = _constituents(flat, singletons[jet])
        typed = {name: as_column(values, COLUMNS[name], self.path) for name, values in values_of.items()}
        for name in ("part_px", "part_py", "part_pz", "part_energy", "part_d0val", "part_dzval"):
            if not np.all(np.isfinite(typed[name])):
                msg = f"{self.path}: damaged: the candidates in /jet_pflow_cands give a {name} that is no number"
                raise InputError(msg)
        table = JetTable(columns, offsets, typed)
        return (table if self.ours else falling_pt(table)).only(names)

    def _derived(self, name: str, view: int, part: slice) -> NDArray[Any]:
        """What a file that is not ours does not say."""
        n = part.stop - part.start
        if name == "event_id":
            return np.arange(part.start, part.stop)
        return np.full(n, {"jet_index": 0, "view": view, "variation": self.variations[view]}[name])


def _check(path: Path, views: Sequence[JetTable], n_views: int) -> None:
    if not views or (n_views and len(views) != n_views):
        msg = f"{path}: a block has {len(views)} views, the others {n_views}"
        raise InputError(msg)
    first = views[0]
    check_names(path, first.columns, (_COUNTS,))
    for view in views:
        missing = [name for name in _SINGLETONS if name not in view.columns]
        if missing := missing + [name for name in _NEEDED if name not in view.constituents]:
            msg = f"{path}: cannot write jets as RS3L has them without the column {missing[0]!r}"
            raise InputError(msg)
        same = view.n_jets == first.n_jets and view.columns.keys() == first.columns.keys()
        for name in ("event_id", "jet_index"):
            same = same and (name not in first.columns or np.array_equal(view.columns[name], first.columns[name]))
        if not same:
            msg = f"{path}: the tables of a block must hold the same jets, in the same order, with the same columns"
            raise InputError(msg)


def _singletons(table: JetTable) -> NDArray[np.float64]:
    values = np.zeros((table.n_jets, _N_SINGLETONS))
    for name, place in _SINGLETONS.items():
        values[:, place] = table.columns[name]
    if "jet_sdmass" in table.columns:
        values[:, _SDMASS] = table.columns["jet_sdmass"]
    return values


def _candidates(path: Path, table: JetTable, length: int) -> NDArray[np.float64]:
    """Features of shape (jets, features, candidates)."""
    jet = np.repeat(np.arange(table.n_jets), table.counts)
    axis = {name: table.columns[f"jet_{name}"].astype(np.float64)[jet] for name in ("pt", "eta", "phi", "energy")}
    c = {name: table.constituents[name].astype(np.float64) for name in _NEEDED}
    pt, eta, phi = pt_eta_phi(c["part_px"], c["part_py"], c["part_pz"])
    if not np.all((pt > 0) & (c["part_energy"] > 0) & (axis["pt"] > 0) & (axis["energy"] > 0)):
        msg = f"{path}: RS3L has the logarithms of pt and energy: jets and constituents without them cannot be written"
        raise InputError(msg)
    eta, phi = eta - axis["eta"], wrapped(phi - axis["phi"])
    features = {
        "pt": np.log(pt),
        "relpt": np.log(pt / axis["pt"]),
        "eta": eta,
        "phi": phi,
        "dr": np.hypot(eta, phi),
        "e": np.log(c["part_energy"]),
        "rele": np.log(c["part_energy"] / axis["energy"]),
        "charge": c["part_charge"],
        "pdgid": _particle_codes(table),
        "d0": np.tanh(c["part_d0val"]),
        "dz": np.tanh(c["part_dzval"]),
    }
    values, _ = padded(JetTable({}, table.offsets, features), FEATURES, length, np.float64)
    return values.transpose(0, 2, 1)


def _particle_codes(table: JetTable) -> NDArray[np.float64]:
    charge = table.constituents["part_charge"].astype(np.float64)
    codes = np.where(charge != 0, _HYPERON * np.sign(charge), 0)
    for name, code in _CODES.items():
        codes = np.where(table.constituents[name], code * np.where(charge < 0, -1, 1), codes)
    return codes


def _constituents(flat: NDArray[np.float64], jets: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Columns from features of shape (M, features) and the singletons of their jets."""
    f = dict(zip(FEATURES, flat.T, strict=True))
    jet_eta, jet_phi = (jets[:, _SINGLETONS[name]] for name in ("jet_eta", "jet_phi"))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        pt, energy = np.exp(f["pt"]), np.exp(f["e"])
        pz = pt * np.sinh(jet_eta + f["eta"])
        # tanh of anything beyond 18.7 is 1 in double precision.
        largest = np.nextafter(1, 0)
        d0, dz = (np.arctanh(np.where(np.abs(f[n]) == 1, np.sign(f[n]) * largest, f[n])) for n in ("d0", "dz"))
    kind = np.abs(f["pdgid"])
    return {
        "part_px": pt * np.cos(jet_phi + f["phi"]),
        "part_py": pt * np.sin(jet_phi + f["phi"]),
        "part_pz": pz,
        "part_energy": energy,
        "part_deta": np.where(jet_eta < 0, -1.0, 1.0) * f["eta"],
        "part_dphi": f["phi"],
        "part_d0val": d0,
        "part_dzval": dz,
        "part_charge": f["charge"],
        **{name: np.isin(kind, codes) for name, codes in _KINDS.items()},
    }


def _check_features(path: Path, file: h5py.File, n_events: int) -> None:
    """Make sure that features are logarithms relative to the jet, by the leading candidates of some jets."""
    part = slice(0, min(n_events, 100))
    leading = rows(file, path, "jet_pflow_cands", (part, 0, slice(None), slice(0, 1)), 4)[..., 0].astype(np.float64)
    jet_pt = rows(file, path, "singletons", (part, 0, _SINGLETONS["jet_pt"]), 3).astype(np.float64)
    filled = (leading[:, FEATURES.index("e")] != 0) & (jet_pt > 0)
    f = dict(zip(FEATURES, leading[filled].T, strict=True))
    relative = np.abs(f["pt"] - np.log(jet_pt[filled]) - f["relpt"]) < 0.02
    distance = np.abs(np.hypot(f["eta"], f["phi"]) - f["dr"]) < 0.02
    if np.sum(relative & distance) < 0.9 * len(relative):
        msg = (
            f"{path}: the candidates' features are not RS3L's: expected log(pt) with log(pt / jet pt), and eta and phi "
            "relative to the jet with their distance. Give a column map (--columns) that says what they are."
        )
        raise InputError(msg)
