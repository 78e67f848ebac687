"""Tell by its content what format a file has, and open it."""

from pathlib import Path

import h5py
import uproot

from hepfm.atomic import exists, is_local
from hepfm.atomic import open_file as open_bytes
from hepfm.errors import InputError
from hepfm.formats.aspen import is_aspen, open_aspen
from hepfm.formats.hdf5 import OFFSETS, open_shard
from hepfm.formats.jet_file import JetFile
from hepfm.formats.nanoaod import is_nanoaod, open_nanoaod
from hepfm.formats.omnilearned import is_omnilearned, open_omnilearned
from hepfm.formats.padded import is_padded, open_padded
from hepfm.formats.parquet import open_parquet
from hepfm.formats.root import open_root
from hepfm.formats.rs3l import is_rs3l, open_rs3l

_HDF5 = (
    (is_padded, open_padded),
    (is_aspen, open_aspen),
    (is_rs3l, open_rs3l),
    (is_omnilearned, open_omnilearned),
)


def open_file(path: Path) -> JetFile:
    """Open one file of jets.

    Raises:
        InputError: the file does not exist, is damaged, or of no known format.
    """
    if not exists(path):
        msg = f"{path}: no such file; expected a file of jets"
        raise InputError(msg)
    if not is_local(path):
        # Shards are read from object stores too; other formats from disk.
        return open_shard(path)
    with open_bytes(path) as file:
        magic = file.read(8)
    if magic.startswith(b"\x89HDF"):
        return _open_hdf5(path)
    if magic.startswith(b"root"):
        return _open_root(path)
    if magic.startswith(b"PAR1"):
        return open_parquet(path)
    # An empty or damaged shard has no magic; its reader says so best.
    return open_shard(path)


def _open_hdf5(path: Path) -> JetFile:
    try:
        with h5py.File(path) as file:
            shard = ((lambda _: OFFSETS in file), open_shard)
            known = next((opens for recognises, opens in (shard, *_HDF5) if recognises(file)), None)
            found = ", ".join(list(file)[:8]) or "nothing"
    except (OSError, RuntimeError) as error:
        msg = f"{path}: damaged HDF5 file: {error}"
        raise InputError(msg) from error
    if known is None:
        msg = f"{path}: an HDF5 file of no known layout; it holds {found}. Expected one of docs/formats.md."
        raise InputError(msg)
    return known(path)


def _open_root(path: Path) -> JetFile:
    try:
        with uproot.open(path) as directory:
            nanoaod = is_nanoaod(directory)
    except Exception as error:  # damage shows up in uproot as errors of any kind
        msg = f"{path}: damaged ROOT file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise InputError(msg) from error
    return open_nanoaod(path) if nanoaod else open_root(path)
