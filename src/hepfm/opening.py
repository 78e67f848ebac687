"""Open jets, whatever holds them: a campaign, files, a dataset of the Hub."""

import os
from collections.abc import Iterable
from pathlib import Path

from hepfm import manifest
from hepfm.atomic import exists, is_folder, location
from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.formats.hdf5 import ShardFile
from hepfm.formats.hub_layout import INDEX, open_folder, open_repository
from hepfm.formats.recognition import open_file
from hepfm.hub import is_repo_id

Source = str | os.PathLike[str]
# Endings that no dataset of the Hub has in its name: a mistyped path is not asked for there.
_OF_FILES = (".root", ".h5", ".hdf5", ".parquet", ".npz", ".csv")


def open(source: Source | Iterable[Source], *, revision: str | None = None, columns: Source | None = None) -> Dataset:
    """Open jets for reading.

    Args:
        source: a campaign folder, a file, files, a folder in the Hub's layout as `export` makes of a campaign, or the
            name of a dataset on the Hub such as "hepfm/resim-jets". Paths may be URLs such as s3://bucket/resim-jets.
        revision: of a dataset on the Hub: a branch, tag or commit; by default the newest.
        columns: for tables of no layout that hepfm knows: the path of a column map, or the name of one of
            `hepfm.formats.column_map.MAPS`. docs/formats.md explains both.

    Raises:
        CampaignError: a folder that holds no campaign, or a damaged one.
        InputError: a file that does not exist, is damaged, or of no known format; an empty list.
        StorageError: the store or the Hub cannot be reached.
    """
    column_map = None if columns is None else os.fspath(columns)
    if isinstance(source, Iterable) and not isinstance(source, str):
        paths = [location(path) for path in source]
        if not paths:
            msg = "the list of files is empty; expected at least one. Does a pattern match no file?"
            raise InputError(msg)
        if folders := [path for path in paths if is_folder(path)]:
            msg = f"{folders[0]}: is a folder; expected a list of files. Open a folder by itself, or list its files."
            raise InputError(msg)
        return Dataset([open_file(path, column_map) for path in paths], f"{len(paths)} files")
    path = location(source)
    if exists(path) and not is_folder(path):
        return Dataset([open_file(path, column_map)], str(path))
    if column_map is not None:
        msg = f"{path}: columns= is for files of tables; expected a file, or a list of files"
        raise InputError(msg)
    if is_folder(path):
        if exists(path / INDEX):
            return Dataset(open_folder(path), str(path))
        return _open_campaign(path)
    if isinstance(source, str) and is_repo_id(source) and path.suffix not in _OF_FILES:
        return Dataset(open_repository(source, revision), source)
    msg = f"{path}: no such file or folder; expected a campaign folder, a file of jets, or OWNER/NAME of the Hub"
    raise InputError(msg)


def _open_campaign(folder: Path) -> Dataset:
    records = manifest.read(folder)
    # Shards are recorded as they finish; the dataset's order must not depend on that.
    listed = manifest.read_header(folder).get("variations")
    order = {name: position for position, name in enumerate(listed if isinstance(listed, list) else ())}
    records.sort(key=lambda r: (order.get(r.variation, len(order)), r.variation, r.chunk, r.path))
    files = [
        ShardFile(f"{folder}/{r.path}", r.n_jets, variations=(r.variation,), processes=(r.process,), sha256=r.sha256)
        for r in records
    ]
    return Dataset(files, str(folder))
