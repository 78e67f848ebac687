"""Tell by its content what format a file has, and open it."""

from pathlib import Path

from hepfm.atomic import exists, is_local
from hepfm.atomic import open_file as open_bytes
from hepfm.errors import InputError
from hepfm.formats.hdf5 import open_shard
from hepfm.formats.jet_file import JetFile
from hepfm.formats.parquet import open_parquet


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
        magic = file.read(4)
    return open_parquet(path) if magic == b"PAR1" else open_shard(path)
