"""Open jets, whatever holds them: a campaign, files, a dataset of the Hub."""

import os
from collections.abc import Sequence
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


def open(source: Source | Sequence[Source], *, revision: str | None = None) -> Dataset:
    """Open jets for reading.

    Args:
        source: a campaign folder, a file (a shard, or Parquet), a list of files, a folder that `export` wrote, or the
            name of a dataset on the Hub such as "hepfm/resim-jets". Paths may be URLs such as s3://bucket/resim-jets.
        revision: of a dataset on the Hub: a branch, tag or commit; by default the newest.

    Raises:
        CampaignError: a folder that holds no campaign, or a damaged one.
        InputError: a file that does not exist, is damaged, or of no known format.
        StorageError: the store or the Hub cannot be reached.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        paths = [location(path) for path in source]
        return Dataset([open_file(path) for path in paths], f"{len(paths)} files")
    path = location(source)
    if is_folder(path):
        if exists(path / INDEX):
            return Dataset(open_folder(path), str(path))
        return _open_campaign(path)
    if exists(path):
        return Dataset([open_file(path)], str(path))
    if isinstance(source, str) and is_repo_id(source):
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
        ShardFile(f"{folder}/{r.path}", r.n_jets, variations=(r.variation,), processes=(r.process,)) for r in records
    ]
    return Dataset(files, str(folder))
