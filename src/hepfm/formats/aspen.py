"""Aspen Open Jets (arXiv:2412.10504): 180 million AK8 jets of CMS's 2016 collisions in HDF5, without labels.

`PFCands` (N, 150, 11) are the particle-flow candidates, padded with zeros; `jet_kinematics` (N, 4), `jet_tagging`
(N, 13) and `event_info` (N, 3) belong to the jets.

Source: the layout is that of AOJProcessing's H5_maker.py, which makes the files; none was at hand here. The test makes
one as it does, of a real file of NanoAOD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.candidates import NOTES, calibrated_energy, constituents, event_id, summed
from hepfm.formats.conversion import as_column
from hepfm.formats.damage import clear_errors, opened_hdf5
from hepfm.formats.jet_file import JetFile
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, Column, is_constituent
from hepfm.table import JetTable

_CANDIDATES = ("px", "py", "pz", "energy", "d0", "d0err", "dz", "dzerr", "charge", "pdg_id", "weight")
_MOMENTUM = ("part_px", "part_py", "part_pz", "part_energy")
# Names of columns that are not the schema's are those of NanoAOD, so that both formats agree.
_DATASETS = MappingProxyType(
    {
        "jet_kinematics": ("jet_pt", "jet_eta", "jet_phi", "jet_sdmass"),
        "jet_tagging": (
            "FatJet_nConstituents",
            *(f"jet_tau{n}" for n in (1, 2, 3, 4)),
            *(f"FatJet_particleNet_{score}" for score in ("H4qvsQCD", "HbbvsQCD", "HccvsQCD", "QCD")),
            *(f"FatJet_particleNet_{score}" for score in ("TvsQCD", "WvsQCD", "ZvsQCD", "mass")),
        ),
        "event_info": ("run", "luminosityBlock", "event"),
    }
)
_EVENT = "event_info"
_NOTES = (
    *NOTES,
    "jet_energy is not in the file: its mass is that of the constituents' sum, times calibrated by uncalibrated pt",
    "the file has at most 150 candidates a jet, not always the hardest; FatJet_nConstituents says how many there were",
    "jet_sdmass is CMS's FatJet_msoftdrop: of PUPPI jets, with corrected subjets; -1 where there are none",
)


def is_aspen(file: h5py.File) -> bool:
    """Whether an HDF5 file has the datasets of Aspen Open Jets."""
    return all(isinstance(file.get(name), h5py.Dataset) for name in ("PFCands", "jet_kinematics"))


def open_aspen(path: Path) -> JetFile:
    """Open a file of Aspen Open Jets.

    Raises:
        InputError: the file is damaged, no HDF5 file, or of another layout.
    """
    with opened_hdf5(path) as file:
        shapes = {name: getattr(file.get(name), "shape", None) for name in ("PFCands", *_DATASETS)}
        types = {name: file[name].dtype for name, shape in shapes.items() if shape is not None}
    n_jets = (shapes["PFCands"] or (0,))[0]
    expected = {"PFCands": (n_jets, "any", len(_CANDIDATES))} | {n: (n_jets, len(c)) for n, c in _DATASETS.items()}
    optional = ("jet_tagging", "event_info")
    for name, shape in shapes.items():
        wanted = expected[name]
        fits = shape is not None and len(shape) == len(wanted) and types[name].kind in "iuf"
        fits = fits and all(want in ("any", have) for have, want in zip(shape or (), wanted, strict=True))
        if not fits and not (shape is None and name in optional):
            msg = (
                f"{path}: no file of Aspen Open Jets: /{name} should be an array of numbers of shape "
                f"({', '.join(map(str, wanted))}); " + ("it is missing" if shape is None else f"it has shape {shape}")
            )
            raise InputError(msg)
    own = {column: types[name] for name, columns in _DATASETS.items() if name in types for column in columns}
    known = [*CONSTITUENT_COLUMNS, *own, "jet_energy", "jet_nparticles", *["event_id"] * (_EVENT in types)]
    columns = [COLUMNS[name] for name in COLUMNS if name in known]
    columns += [Column(name, kind.name, "", "as in the file") for name, kind in own.items() if name not in COLUMNS]
    absent = [f"the file has no {name}" for name in optional if name not in types]
    return AspenFile(str(path), n_jets, tuple(columns), classes=(), notes=(*_NOTES, *absent))


@dataclass(frozen=True)
class AspenFile(JetFile):
    """A file of Aspen Open Jets."""

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets; candidates only where the columns wanted need them."""
        lists = [name for name in names if is_constituent(name)]
        with opened_hdf5(self.path) as file:
            jets = partial(self._jet_column, file, start=start, stop=stop)
            table = JetTable({}, np.zeros(stop - start + 1, np.int64), {})
            if lists or not names or {"jet_energy", "jet_nparticles"} & set(names):
                extra = _MOMENTUM if "jet_energy" in names else ()
                table = self._constituents(file, (*lists, *extra), start, stop)
            known = {c.name: c for c in self.columns}
            columns: dict[str, NDArray[Any]] = {}
            for name in names:
                values: NDArray[Any]
                if name == "jet_nparticles":
                    values = table.counts
                elif name == "jet_energy":
                    sums = summed(table.offsets, [table.constituents[part] for part in _MOMENTUM])
                    values = calibrated_energy(sums, jets("jet_pt"), jets("jet_eta"))
                elif name == "event_id":
                    values = event_id(self.path, jets("run"), jets("event"))
                elif not is_constituent(name):
                    values = jets(name)
                else:
                    continue
                columns[name] = as_column(values, known[name], self.path)
        return JetTable(columns, table.offsets, {name: table.constituents[name] for name in lists})

    def _constituents(self, file: h5py.File, names: Sequence[str], start: int, stop: int) -> JetTable:
        padded = self._rows(file, "PFCands", start, stop)
        n_slots = padded.shape[1]
        flat = padded.reshape(-1, len(_CANDIDATES))
        return constituents(
            self.path,
            np.arange(0, len(flat) + 1, n_slots) if n_slots else np.zeros(stop - start + 1, np.int64),
            lambda name: flat[:, _CANDIDATES.index(name)],
            (
                self._jet_column(file, "jet_eta", start=start, stop=stop),
                self._jet_column(file, "jet_phi", start=start, stop=stop),
            ),
            names,
        )

    def _jet_column(self, file: h5py.File, name: str, *, start: int, stop: int) -> NDArray[Any]:
        dataset = next(dataset for dataset, columns in _DATASETS.items() if name in columns)
        return self._rows(file, dataset, start, stop)[:, _DATASETS[dataset].index(name)]

    def _rows(self, file: h5py.File, name: str, start: int, stop: int) -> NDArray[Any]:
        with clear_errors(f"{self.path}: damaged: /{name} cannot be read"):
            values: NDArray[Any] = file[name][start:stop]
        if len(values) != stop - start:
            msg = f"{self.path}: damaged: /{name} has fewer than the {self.n_jets} jets that it had when it was opened"
            raise InputError(msg)
        return values
