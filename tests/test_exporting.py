import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import hepfm
from hepfm import cli
from hepfm.errors import InputError
from hepfm.exporting import FORMATS, export
from hepfm.formats.hdf5 import content_digest
from hepfm.formats.parquet import write_parquet

FOREIGN_CLASSES = ("signal", "background")


@pytest.fixture(scope="module")
def campaign(small_campaign) -> hepfm.Dataset:
    return hepfm.open(small_campaign[1])


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    """A small table of the layout of the top-tagging set, which has no meaning without its column map."""
    path = tmp_path_factory.mktemp("tables") / "train.parquet"
    values = np.zeros((3, 200, 4), np.float32)
    values[0, :2], values[1, :1], values[2, :3] = (50, 40, 30, 0), (90, 0, 80, 41), (70, -60, 10, 34)
    columns = {f"{name}_{i}": values[:, i, k] for i in range(200) for k, name in enumerate(("E", "PX", "PY", "PZ"))}
    columns |= {name: np.array([0, 600, 500], np.float32) for name in ("truthPX", "truthPY", "truthPZ")}
    columns["is_signal_new"] = np.array([0, 1, 1])
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("to", ["parquet", "root", "padded"])
def test_each_variation_comes_back_bit_by_bit(campaign, tmp_path, to):
    exported = export(campaign.name, tmp_path, to)

    assert exported.n_jets == len(campaign)
    for variation, path in zip(campaign.variations, exported.paths, strict=True):
        back = hepfm.open(path)
        assert back.classes == campaign.classes
        assert content_digest(back.read_table(campaign.columns)) == content_digest(
            campaign.read_table(variation=variation)
        )


def test_rs3l_has_all_views_of_a_jet_side_by_side(campaign, tmp_path):
    (path,) = export(campaign.name, tmp_path, "rs3l").paths
    one, two = campaign.pairs(*campaign.variations)
    back = hepfm.open(path)

    assert (back.variations, set(back.processes)) == (campaign.variations, set(campaign.processes))
    with h5py.File(path) as file:
        assert file["singletons"].shape[:2] == (len(one), 2)
    for variation, views in zip(campaign.variations, (one, two), strict=True):
        read = back.read(variation=variation)
        order = np.lexsort((read.jet_index.to_numpy(), read.event_id.to_numpy()))
        for name in ("jet_pt", "jet_sdmass", "jet_flavour", "truth_pt", "part_px", "part_energy", "part_charge"):
            assert read[order][name].to_list() == views[name].to_list(), name


@pytest.mark.parametrize("to", list(FORMATS))
def test_classes_of_other_origin_survive(campaign, tmp_path, to):
    source, table = tmp_path / "foreign.parquet", campaign.read_table(variation="quick")
    table.columns["jet_label"] = (np.arange(table.n_jets) % 2).astype(table.columns["jet_label"].dtype)
    write_parquet(source, [table], {}, FOREIGN_CLASSES)
    assert hepfm.open(source).classes == FOREIGN_CLASSES

    back = hepfm.open(export(source, tmp_path / to, to).paths)

    assert back.classes == FOREIGN_CLASSES
    assert sorted(back.read(["jet_label"]).jet_label.to_list()) == sorted(table.columns["jet_label"].tolist())


@pytest.mark.parametrize("to", list(FORMATS))
def test_tables_of_any_layout_are_converted_through_their_column_map(table_file, tmp_path, to):
    original = hepfm.open(table_file, columns="top-tagging")
    back = hepfm.open(export(table_file, tmp_path, to, columns="top-tagging").paths)

    assert sorted(back.read(["jet_pt"]).jet_pt.to_list()) == sorted(original.read(["jet_pt"]).jet_pt.to_list())


def test_the_command_takes_a_column_map(table_file, tmp_path):
    arguments = [str(table_file), "--columns", "top-tagging", "--to", "parquet", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli.cli, ["export", *arguments])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_jets"] == 3
    assert "200 hardest constituents" in done.stderr
    assert hepfm.open(tmp_path / "jets.parquet").read(["jet_pt"]).jet_pt.to_list() == pytest.approx([100, 80, 182.48])


def test_a_column_map_is_for_files(campaign, table_file, tmp_path):
    with pytest.raises(InputError, match="columns= is for files of tables"):
        hepfm.open(campaign.name, columns="top-tagging")
    with pytest.raises(InputError, match="holds E_0"):
        hepfm.open(table_file)
