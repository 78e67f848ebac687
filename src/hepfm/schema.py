"""The columns of a dataset: names, types, units and meanings. The one source of the format.

One row is one jet in one view. Names and conventions are JetClass's (arXiv:2202.03772), so that weaver-core,
Particle Transformer and other JetClass readers take the data unchanged.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.hashing import hashed

FORMAT_VERSION = 1
"""Goes up when a column changes its name, type, unit or meaning; adding a column leaves it."""


@dataclass(frozen=True)
class Column:
    """One column: `dtype` is a NumPy name ("str" for text), `unit` is empty where there is none."""

    name: str
    dtype: str
    unit: str
    meaning: str

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The type of the column's array in memory."""
        return np.dtype(self.dtype)


JET_CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""JetClass's ten classes in its order; `jet_label` is an index into them."""

JET_FLAVOURS = MappingProxyType(
    {
        "other": 0,
        # 1 to 11 are the jet types of the published RS3L set (Zenodo 10633815).
        "q": 1,
        "c": 2,
        "b": 3,
        "Hbb": 4,
        "gqq": 5,
        "gcc": 6,
        "gbb": 7,
        "ggg": 8,
        "W": 9,
        "Zqq": 10,
        "Zbb": 11,
        # Not in RS3L: a gluon that did not split, and the top quark.
        "g": 12,
        "top": 13,
    }
)
"""Name and code of every `jet_flavour`."""

IDENTITY = (
    Column("event_id", "int64", "", "frozen event, unique in the campaign and the same in all its views"),
    Column("jet_index", "int8", "", "frozen parton or resonance of the event that the jet is matched to"),
    Column("view", "int16", "", "position of the variation in the campaign's list"),
    Column("variation", "str", "", "name of the variation under which the event was simulated again"),
    Column("process", "str", "", "name of the hard process"),
)

LABEL = (
    Column("jet_label", "int16", "", "class, an index into " + " ".join(JET_CLASSES)),
    Column("jet_flavour", "int8", "", "RS3L jet type, a code listed in the attribute 'codes'"),
)

JET = (
    Column("jet_pt", "float32", "GeV", "transverse momentum"),
    Column("jet_eta", "float32", "", "pseudorapidity"),
    Column("jet_phi", "float32", "rad", "azimuth, -pi to pi"),
    Column("jet_energy", "float32", "GeV", "energy"),
    Column("jet_nparticles", "int32", "", "number of constituents"),
    Column("jet_sdmass", "float32", "GeV", "soft-drop mass, z_cut 0.1, beta 0"),
    Column("jet_tau1", "float32", "", "1-subjettiness"),
    Column("jet_tau2", "float32", "", "2-subjettiness"),
    Column("jet_tau3", "float32", "", "3-subjettiness"),
    Column("jet_tau4", "float32", "", "4-subjettiness"),
)

TRUTH = (
    Column("truth_pt", "float32", "GeV", "transverse momentum of the matched frozen parton or resonance"),
    Column("truth_eta", "float32", "", "its pseudorapidity"),
    Column("truth_phi", "float32", "rad", "its azimuth, -pi to pi"),
    Column("truth_pdg_id", "int32", "", "its particle code in the PDG's numbering"),
    Column("weight", "float64", "", "event weight"),
)

CONSTITUENTS = (
    Column("part_px", "float32", "GeV", "momentum along x"),
    Column("part_py", "float32", "GeV", "momentum along y"),
    Column("part_pz", "float32", "GeV", "momentum along the beam"),
    Column("part_energy", "float32", "GeV", "energy"),
    Column("part_deta", "float32", "", "sign(jet_eta) * (eta - jet_eta)"),
    Column("part_dphi", "float32", "rad", "phi - jet_phi, -pi to pi"),
    Column("part_d0val", "float32", "mm", "transverse impact parameter, 0 without a track"),
    Column("part_d0err", "float32", "mm", "its uncertainty"),
    Column("part_dzval", "float32", "mm", "longitudinal impact parameter, 0 without a track"),
    Column("part_dzerr", "float32", "mm", "its uncertainty"),
    Column("part_charge", "int8", "e", "electric charge"),
    Column("part_isChargedHadron", "bool", "", "is a charged hadron"),
    Column("part_isNeutralHadron", "bool", "", "is a neutral hadron"),
    Column("part_isPhoton", "bool", "", "is a photon"),
    Column("part_isElectron", "bool", "", "is an electron or positron"),
    Column("part_isMuon", "bool", "", "is a muon or antimuon"),
)

GROUPS = MappingProxyType(
    {"identity": IDENTITY, "label": LABEL, "jet": JET, "truth": TRUTH, "constituents": CONSTITUENTS}
)
"""All columns by group, in the order of the format."""

JET_COLUMNS = MappingProxyType({c.name: c for c in IDENTITY + LABEL + JET + TRUTH})
"""Columns with one value a jet."""

CONSTITUENT_COLUMNS = MappingProxyType({c.name: c for c in CONSTITUENTS})
"""Columns with one value a constituent; within a jet ordered by falling transverse momentum."""

COLUMNS = MappingProxyType({**JET_COLUMNS, **CONSTITUENT_COLUMNS})
"""Every column of the format by name."""

TRACKS = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")
"""Columns of constituents that mean something only where there is a track."""

TYPE_FLAGS = tuple(name for name in CONSTITUENT_COLUMNS if name.startswith("part_is"))
"""Columns that say what a constituent is: one of them holds, or none."""

_CONSTITUENT_PREFIX = "part_"


def is_constituent(name: str) -> bool:
    """Whether a column, of the format or of a file of other origin, has one value a constituent."""
    return name.startswith(_CONSTITUENT_PREFIX)


def is_plain_name(name: str) -> bool:
    """Whether a name, from a file of anybody's, can be that of a file, and of none elsewhere."""
    return re.fullmatch(r"[\w+-][\w.+-]*", name) is not None


SPLITS = ("train", "validation", "test")
_SPLIT_SEED = 0
SPLIT_RULE = "splitmix64(event_id) mod 10: 0-7 train, 8 validation, 9 test (version 1)"
"""How `split_of` decides; published data sets depend on it, so a change is a new version."""


def split_of(event_id: NDArray[np.int64]) -> NDArray[np.int8]:
    """Assign events to train, validation and test (80, 10 and 10 %).

    The split depends on the event's number alone: all views of an event fall into the same one, and it stays
    what it was when a campaign grows.

    Args:
        event_id: event numbers, any shape.

    Returns:
        Indices into `SPLITS`, same shape.

    """
    mixed = hashed(np.asarray(event_id, dtype=np.int64).astype(np.uint64), _SPLIT_SEED)
    tenth = (mixed % np.uint64(10)).astype(np.int8)
    split: NDArray[np.int8] = np.clip(tenth - np.int8(7), 0, 2)
    return split


def unknown_name(what: str, given: str, known: Iterable[str]) -> str:
    """Word the error for a name that does not exist: what is known, and which one was probably meant."""
    known = list(known)
    alike = {name.lower(): name for name in reversed(known)}
    close = difflib.get_close_matches(given.lower(), alike, n=1, cutoff=0.65)
    hint = f" Did you mean {alike[close[0]]!r}?" if close else ""
    return f"unknown {what} {given!r}. Known: {', '.join(known)}.{hint}"


def column(name: str) -> Column:
    """Look a column up by name.

    Raises:
        InputError: there is no such column.
    """
    if name not in COLUMNS:
        raise InputError(unknown_name("column", name, COLUMNS))
    return COLUMNS[name]
