"""OmniLearned's HDF5 files (arXiv:2510.24066): folders train, val and test of files with three arrays.

`data` (N, M, F): eta and phi relative to the jet, natural logarithms of pt and energy in GeV, a small integer for the
type of particle, then tanh d0, d0's error, tanh dz, dz's error, all of them in mm; rows of zeros pad. `pid` (N,): the
class. `global` (N, 4): jet pt, eta, mass and multiplicity.

Beside them, `hepfm/<column>` (N,) holds the jets' columns; OmniLearned does not look at it.

Source: the README of ViniciusMikuni/OmniLearned. Its rule for the types, the position of a particle code among those
that occur, is applied to all nine codes that can occur, of which 0 is a particle of no type.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.arrays import array, piecewise, rows, texts, writing
from hepfm.formats.blocks import in_blocks
from hepfm.formats.conversion import as_column, check_names, datasets, falling_pt
from hepfm.formats.damage import opened_hdf5
from hepfm.formats.jet_file import JetFile
from hepfm.kinematics import pt_eta_phi, wrapped
from hepfm.padding import padded, ragged
from hepfm.schema import COLUMNS, JET_CLASSES, Column, is_constituent
from hepfm.table import JetTable

FOLDERS = MappingProxyType({"train": "train", "validation": "val", "test": "test"})
"""Names of the folders by those of the splits."""

PARTICLE_CODES = (-211, -13, -11, 0, 11, 13, 22, 130, 211)
"""The particle code that each small integer stands for."""

_BLOCK = 4096
_KINEMATICS = ("deta", "dphi", "log_pt", "log_energy")
_COUNTS = "n_constituents"
_PID = "particle_id"
_TRACKS = {"tanh_d0": "part_d0val", "d0_error": "part_d0err", "tanh_dz": "part_dzval", "dz_error": "part_dzerr"}
_GLOBAL = ("jet_pt", "jet_eta", "jet_mass", "jet_nparticles")
_MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")
_FLAGS = {
    "part_isChargedHadron": 211,
    "part_isNeutralHadron": 130,
    "part_isPhoton": 22,
    "part_isElectron": -11,
    "part_isMuon": -13,
}
_IDENTITY = ("part_charge", *_FLAGS)
_NEEDED = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_label")


def left_out(columns: Iterable[str]) -> tuple[str, ...]:
    """Say in sentences what of some columns does not come back from a file."""
    known = {*_MOMENTA, *_IDENTITY, *_TRACKS.values(), "part_deta", "part_dphi"}
    lost = [name for name in columns if name.startswith("part_") and name not in known]
    return (
        *[f"not carried: {', '.join(lost)}"] * bool(lost),
        "momenta, energies and angles of constituents come back to about 1e-6, through their logarithms",
        "part_d0val and part_dzval come back through tanh: to 1e-6 at 1 mm, to 1 % at 5 mm, and as 8.7 mm beyond that",
        "charge and type come back as one of nine: a charged particle of no type loses its charge",
        "constituents beyond the number of places are dropped, those of lowest pt",
        "a jet of no class has the pid -1, which OmniLearned does not expect: leave such jets out when training",
    )


def write_omnilearned(
    path: Path, tables: Iterable[JetTable], n_constituents: int = 150, classes: Sequence[str] = JET_CLASSES
) -> int:
    """Write one file as OmniLearned reads them, in constant memory.

    Args:
        path: where the file goes, such as `custom/train/jets.h5`; an existing one is replaced.
        tables: jets, some at a time, all with the same columns. Types and tracks are written if all columns that they
            are made of are there.
        n_constituents: places a jet; OmniLearned takes up to 150.
        classes: names of what `jet_label` is an index of.

    Returns:
        How many constituents did not fit; the file has it as the attribute `n_cut`.

    Raises:
        InputError: no jets, a column that the format needs is missing, or one has a name that it needs itself.
        StorageError: the file could not be written.
    """
    n_cut = 0
    words: dict[str, dict[str, None]] = {"variation": {}, "process": {}}
    with writing(path) as file:
        for table in in_blocks(tables, _BLOCK):
            check_names(path, table.columns, (_COUNTS,))
            features = _features(path, table)
            values, _ = padded(JetTable({}, table.offsets, features), list(features), n_constituents)
            file.append("data", values, columns=list(features), particle_codes=PARTICLE_CODES)
            file.append("pid", table.columns["jet_label"].astype(np.int64))
            file.append("global", _global(table), columns=list(_GLOBAL))
            file.append(f"hepfm/{_COUNTS}", np.minimum(table.counts, n_constituents).astype(np.int32))
            for name, column in table.columns.items():
                file.append(f"hepfm/{name}", column)
                if name in words:
                    words[name] |= dict.fromkeys(column.tolist())
            n_cut += int(np.maximum(table.counts - n_constituents, 0).sum())
        file.attributes.update({"n_cut": n_cut, "classes": list(classes)})
        file.attributes.update({name: list(found) for name, found in words.items() if found})
    return n_cut


def is_omnilearned(file: h5py.File) -> bool:
    """Whether an HDF5 file has OmniLearned's arrays."""
    return {"data", "pid"} <= set(file) and getattr(file["data"], "ndim", 0) == 3


def open_omnilearned(path: Path) -> JetFile:
    """Open one of OmniLearned's files, or one that `write_omnilearned` wrote.

    A file of others does not say the jets' azimuth: they are turned to phi = 0. Nor does it say what its small integers
    for particles mean: they are the column `part_pid`. Without `global` as above, there are no momenta, but the columns
    `part_pt` and `part_energy`.

    Raises:
        InputError: the file is damaged, or not of this layout.
    """
    with opened_hdf5(path) as file:
        data, pid = array(file, path, "data", 3), array(file, path, "pid", 1)
        n_jets, _, n_features = data.shape
        if len(pid) != n_jets or n_features < len(_KINEMATICS):
            msg = f"{path}: not of OmniLearned's layout: /data has shape {data.shape}, /pid {pid.shape}"
            raise InputError(msg)
        held = datasets(file.get("hepfm"))
        beside = {name: array(file, path, f"hepfm/{name}", 1).dtype for name in held if name != _COUNTS}
        ours = _COUNTS in held
        features = texts(data.attrs, "columns") if ours else _features_of(n_features)
        jets_known = ours or ("global" in file and array(file, path, "global", 2).shape == (n_jets, len(_GLOBAL)))
        n_cut = int(file.attrs.get("n_cut", 0))
        variations, processes, classes = (texts(file.attrs, name) for name in ("variation", "process", "classes"))
    notes = ["momenta, energies, angles and impact parameters went through logarithms and tanh in single precision"]
    if n_cut:
        notes.append(f"{n_cut} constituents were dropped when the file was written")
    names = {"part_deta", "part_dphi", "part_energy", "jet_label"}
    names |= {_TRACKS[name] for name in features if name in _TRACKS}
    extra = {name: "str" if dtype.kind == "S" else dtype.name for name, dtype in beside.items() if name not in COLUMNS}
    if jets_known:
        names |= {*_MOMENTA}
    else:
        extra["part_pt"] = "float32"
        notes.append("momenta are left out, for the file has no /global with jet pt, eta, mass and multiplicity")
    if ours:
        names |= {*beside, *(_IDENTITY if _PID in features else ())}
    else:
        names |= {"jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles"} if jets_known else set()
        if _PID in features:
            extra["part_pid"] = "int16"
        notes.append(
            "the file does not say the names of classes and types of particles (part_pid), nor jet_phi, set to 0"
        )
    columns = [c for name, c in COLUMNS.items() if name in names]
    columns += [Column(name, dtype, "", "as in the file") for name, dtype in extra.items()]
    return OmniLearnedFile(
        str(path),
        n_jets,
        tuple(columns),
        variations,
        processes,
        classes,
        tuple(notes),
        features=features,
        beside=tuple(beside),
        ours=ours,
    )


@dataclass(frozen=True)
class OmniLearnedFile(JetFile):
    """One of OmniLearned's files.

    Attributes:
        features: what the last axis of `data` holds; those without a known meaning are empty.
        beside: columns that hepfm wrote beside the three arrays.
        ours: whether hepfm wrote it.
    """

    features: tuple[str, ...] = field(kw_only=True)
    beside: tuple[str, ...] = field(kw_only=True)
    ours: bool = field(kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets."""
        return piecewise(lambda first, last: self._read(names, first, last), start, stop)

    def _read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        known = {c.name: c for c in self.columns}
        part = slice(start, stop)
        with opened_hdf5(self.path) as file:
            jets = self._jets(file, part)
            if self.ours:
                counts = rows(file, self.path, f"hepfm/{_COUNTS}", part)
                jets |= {name: rows(file, self.path, f"hepfm/{name}", part) for name in names if name in self.beside}
            columns = {name: as_column(jets[name], known[name], self.path) for name in names if name in jets}
            if self.ours and not any(map(is_constituent, names)):
                return JetTable(columns, np.cumsum([0, *counts], dtype=np.int64), {})
            data = rows(file, self.path, "data", part, 3).astype(np.float64)
        if self.ours:
            mask = np.arange(data.shape[1]) < counts[:, np.newaxis]
        else:
            mask = (data[..., 2] != 0) | (data[..., 3] != 0)
        offsets, flat = ragged(data, mask)
        jet = np.repeat(np.arange(stop - start), np.diff(offsets))
        values = self._constituents(dict(zip(self.features, flat.T, strict=False)), jets, jet)
        typed = {name: as_column(v, known[name], self.path) for name, v in values.items() if name in known}
        for name, column in typed.items():
            if column.dtype.kind == "f" and not np.all(np.isfinite(column)):
                msg = f"{self.path}: damaged: /data gives a {name} that is no number"
                raise InputError(msg)
        table = JetTable(columns, offsets, typed)
        return (falling_pt(table) if "part_px" in typed and not self.ours else table).only(names)

    def _jets(self, file: h5py.File, part: slice) -> dict[str, NDArray[Any]]:
        jets = {"jet_label": rows(file, self.path, "pid", part)}
        if self.ours:
            needed = ("jet_pt", "jet_eta", "jet_phi", "jet_energy")
            return jets | {name: rows(file, self.path, f"hepfm/{name}", part) for name in needed}
        if any(c.name == "jet_pt" for c in self.columns):
            pt, eta, mass, count = rows(file, self.path, "global", part, 2).astype(np.float64).T
            jets |= {"jet_pt": pt, "jet_eta": eta, "jet_phi": np.zeros_like(pt), "jet_nparticles": count}
            jets["jet_energy"] = np.hypot(pt * np.cosh(eta), mass)
        return jets

    def _constituents(
        self, f: Mapping[str, NDArray[np.float64]], jets: Mapping[str, NDArray[Any]], jet: NDArray[np.intp]
    ) -> dict[str, NDArray[Any]]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            pt, energy = np.exp(f["log_pt"]), np.exp(f["log_energy"])
            values: dict[str, NDArray[Any]] = {"part_pt": pt, "part_energy": energy, "part_dphi": f["dphi"]}
            sign: NDArray[Any] = np.ones(len(pt))
            if "jet_eta" in jets:
                eta, phi = (jets[name].astype(np.float64)[jet] for name in ("jet_eta", "jet_phi"))
                sign = np.where(eta < 0, -1.0, 1.0)
                values |= {"part_px": pt * np.cos(phi + f["dphi"]), "part_py": pt * np.sin(phi + f["dphi"])}
                values["part_pz"] = pt * np.sinh(eta + f["deta"])
            values["part_deta"] = sign * f["deta"]
            largest = np.nextafter(np.float32(1), np.float32(0))
            for name, column in _TRACKS.items():
                if name in f:
                    tanh = np.where(np.abs(f[name]) == 1, np.sign(f[name]) * largest, f[name])
                    values[column] = np.arctanh(tanh) if name.startswith("tanh") else f[name]
        if _PID in f:
            values["part_pid"] = f[_PID]
            if self.ours:
                number = f[_PID].astype(np.int64)
                if len(number) and not 0 <= number.min() <= number.max() < len(PARTICLE_CODES):
                    msg = f"{self.path}: damaged: /data has types of particles beyond the nine"
                    raise InputError(msg)
                code = np.array(PARTICLE_CODES)[number]
                kind = np.abs(code)
                values |= {name: kind == abs(own) for name, own in _FLAGS.items()}
                charged = np.isin(kind, (11, 13, 211))
                values["part_charge"] = np.where(charged, np.sign(code) * np.where(kind == 211, 1, -1), 0)
        return values


def _features(path: Path, table: JetTable) -> dict[str, NDArray[np.float64]]:
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing := missing + [name for name in _MOMENTA if name not in table.constituents]:
        msg = f"{path}: cannot write jets as OmniLearned has them without the column {missing[0]!r}"
        raise InputError(msg)
    jet = np.repeat(np.arange(table.n_jets), table.counts)
    jet_eta, jet_phi = (table.columns[name].astype(np.float64)[jet] for name in ("jet_eta", "jet_phi"))
    px, py, pz, energy = (table.constituents[name].astype(np.float64) for name in _MOMENTA)
    pt, eta, phi = pt_eta_phi(px, py, pz)
    if not np.all((pt > 0) & (energy > 0)):
        msg = f"{path}: OmniLearned has the logarithms of pt and energy: constituents without them cannot be written"
        raise InputError(msg)
    features = {
        "deta": eta - jet_eta,
        "dphi": wrapped(phi - jet_phi),
        "log_pt": np.log(pt),
        "log_energy": np.log(energy),
    }
    if all(name in table.constituents for name in _IDENTITY):
        charge = table.constituents["part_charge"]
        code = np.zeros(len(jet), np.int64)
        for name, own in _FLAGS.items():
            code = np.where(table.constituents[name], own * np.where(charge < 0, -1, 1), code)
        features[_PID] = np.searchsorted(PARTICLE_CODES, code).astype(np.float64)
    if all(name in table.constituents for name in _TRACKS.values()):
        for name, column in _TRACKS.items():
            values = table.constituents[column].astype(np.float64)
            features[name] = np.tanh(values) if name.startswith("tanh") else values
    return features


def _features_of(n: int) -> tuple[str, ...]:
    """What a file of others has in as many features: the type is the fifth, tracks are the last four."""
    named = {4: (), 5: (_PID,), 8: tuple(_TRACKS), 9: (_PID, *_TRACKS)}
    known = (*_KINEMATICS, *named.get(n, (_PID,)))
    return known + ("",) * (n - len(known))


def _global(table: JetTable) -> NDArray[np.float32]:
    pt, eta, energy = (table.columns[f"jet_{name}"].astype(np.float64) for name in ("pt", "eta", "energy"))
    mass = np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0))
    return np.stack([pt, eta, mass, table.counts], axis=1).astype(np.float32)
