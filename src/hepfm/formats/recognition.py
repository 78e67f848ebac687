"""Tell by its content what format a file has, and open it."""

from collections.abc import Iterator
from pathlib import Path

import h5py

from hepfm.atomic import exists, is_local
from hepfm.atomic import open_file as open_bytes
from hepfm.errors import InputError
from hepfm.formats.aspen import is_aspen, open_aspen
from hepfm.formats.column_map import open_table
from hepfm.formats.damage import clear_errors, opened_hdf5, opened_root
from hepfm.formats.hdf5 import OFFSETS, open_shard
from hepfm.formats.jet_file import EXPECTED, JetFile
from hepfm.formats.nanoaod import is_nanoaod, open_nanoaod
from hepfm.formats.omnilearned import is_omnilearned, open_omnilearned
from hepfm.formats.padded import is_padded, open_padded
from hepfm.formats.parquet import open_parquet
from hepfm.formats.root import open_root
from hepfm.formats.rs3l import is_rs3l, open_rs3l


def open_file(path: Path, columns: str | Path | None = None) -> JetFile:
    """Open one file of jets.

    Args:
        path: of the file; only shards and Parquet files may lie in an object store.
        columns: a column map for a table that has no layout of those that hepfm knows.

    Raises:
        InputError: the file does not exist, is damaged, of no known format, or of one that is not read from a store.
        StorageError: the store cannot be reached.
    """
    if not exists(path):
        msg = f"{path}: no such file; expected a file of jets"
        raise InputError(msg)
    if not is_local(path):
        if columns is None:
            return _open_stored(path)
        msg = f"{path}: tables that need a column map are not read from a store. {_FROM_STORES}"
        raise InputError(msg)
    if columns is not None:
        return open_table(path, columns)
    with open_bytes(path) as file:
        magic = file.read(8)
    if magic.startswith(b"\x89HDF"):
        return _open_hdf5(path)
    if magic.startswith(b"root"):
        return _open_root(path)
    if magic.startswith(b"PAR1"):
        return open_parquet(path)
    if path.suffix in _HDF5_NAMES:
        return open_shard(path)  # which says best what is damaged
    events = "of events without jets: resim --lhe and ingest take Les Houches and HepMC files. "
    msg = f"{path}: of no known format, or {events}{EXPECTED}"
    raise InputError(msg)


def _open_hdf5(path: Path) -> JetFile:
    with opened_hdf5(path) as file:
        known = next((opens for recognises, opens in _HDF5 if recognises(file)), None)
        found = ", ".join(list(file)[:8]) or "nothing"
        close = [f"it would be {what} with /{lacking}" for what, lacking in _nearly(file)]
    if known is None:
        msg = f"{path}: an HDF5 file of no known layout; it holds {'; '.join([found, *close])}. {EXPECTED}"
        raise InputError(msg)
    return known(path)


def _open_stored(path: Path) -> JetFile:
    with open_bytes(path) as content:
        magic = content.read(8)
        if magic.startswith(b"\x89HDF"):
            with clear_errors(f"{path}: damaged, cut off or no HDF5 file"), h5py.File(content, "r") as file:
                is_shard = _is_shard(file)
        else:
            is_shard = path.suffix in _HDF5_NAMES  # a damaged one
    if magic.startswith(b"PAR1"):
        return open_parquet(path)
    if is_shard:
        return open_shard(path)
    msg = f"{path}: of a format that is not read from a store. {_FROM_STORES}"
    raise InputError(msg)


def _open_root(path: Path) -> JetFile:
    with opened_root(path) as directory:
        nanoaod = is_nanoaod(directory)
    return open_nanoaod(path) if nanoaod else open_root(path)


def _nearly(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Layouts of which a file lacks one dataset only, with its name."""
    for what, needed in _DATASETS.items():
        lacking = [name for name in needed if name not in file]
        if len(lacking) == 1:
            yield what, lacking[0]


def _is_shard(file: h5py.File) -> bool:
    return OFFSETS in file


_FROM_STORES = (
    "Only campaigns, published folders, shards and Parquet files are: copy the file first, and open the copy."
)
_HDF5_NAMES = (".h5", ".hdf5")
_HDF5 = (
    (_is_shard, open_shard),
    (is_padded, open_padded),
    (is_aspen, open_aspen),
    (is_rs3l, open_rs3l),
    (is_omnilearned, open_omnilearned),
)
_DATASETS = {
    "a shard": (OFFSETS, "jets/jet_pt"),
    "of RS3L": ("singletons", "jet_pflow_cands"),
    "of OmniLearned": ("data", "pid"),
    "of Aspen Open Jets": ("PFCands", "jet_kinematics"),
}
