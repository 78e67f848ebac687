"""Files that are cut off, damaged, or lack a part, given to the command: one clear line that names file and part."""

import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import hepfm
from hepfm import cli
from hepfm.errors import HepfmError
from hepfm.exporting import FORMATS, export
from hepfm.formats.hdf5 import content_digest


@pytest.fixture(scope="module")
def files(small_campaign, tmp_path_factory):
    """One file of each format, of the same jets."""
    folder = tmp_path_factory.mktemp("formats")
    shard = min(small_campaign[1].glob("shards/quick/*.h5"))
    found = {to: export(shard, folder / to, to).paths[0] for to in FORMATS}
    return {"shard": shard, **found}


def convert(path, out):
    """What the command says: the error, or None."""
    done = CliRunner().invoke(cli.cli, ["export", str(path), "--to", "parquet", "--out", str(out)])
    if done.exit_code == 0:
        return None
    assert isinstance(done.exception, HepfmError), done.exception
    return str(done.exception)


@pytest.mark.parametrize("kind", ["shard", *FORMATS])
def test_cut_files_are_one_clear_line_and_leave_nothing(files, tmp_path, kind):
    content = files[kind].read_bytes()
    path = tmp_path / f"cut{files[kind].suffix}"
    for part in (0, 0.002, 0.3, 0.9, 0.999):
        path.write_bytes(content[: int(part * len(content))])
        error = convert(path, tmp_path / "out")
        assert error is not None, part
        assert error.startswith(f"{path}: ")
        assert "\n" not in error
        assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


# ROOT keeps names and small baskets without a checksum: there damage may pass.
@pytest.mark.parametrize("kind", ["shard", "parquet", "rs3l", "padded", "omnilearned"])
def test_a_damaged_byte_is_one_clear_line_or_changes_nothing(files, tmp_path, kind):
    path = tmp_path / f"damaged{files[kind].suffix}"
    content, rng = files[kind].read_bytes(), np.random.default_rng(11)
    expected = content_digest(hepfm.open(files[kind]).read_table())
    n_noticed = 0
    for place in rng.integers(0, len(content), 20):
        damaged = bytearray(content)
        damaged[place] ^= 0x5A
        path.write_bytes(damaged)
        error = convert(path, tmp_path / "out")
        if error is None:
            assert content_digest(hepfm.open(path).read_table()) == expected
        else:
            n_noticed += 1
            assert str(path) in error
            assert "\n" not in error
    assert n_noticed > 10


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("shard", "constituents/offsets", "it would be a shard with /constituents/offsets"),
        ("shard", "constituents/part_px", "/constituents/part_px cannot be opened"),
        ("shard", "jets/jet_pt", "/jets/jet_pt cannot be opened"),
        ("rs3l", "singletons", "it would be of RS3L with /singletons"),
        ("omnilearned", "pid", "it would be of OmniLearned with /pid"),
        ("padded", "mask", "/mask must be an array"),
    ],
)
def test_missing_datasets_are_named(files, tmp_path, kind, name, message):
    path = shutil.copy(files[kind], tmp_path / "part.h5")
    with h5py.File(path, "r+") as file:
        del file[name]
    error = convert(path, tmp_path / "out")

    assert error is not None
    assert error.startswith(f"{path}: ")
    assert message in error
    assert "\n" not in error
