import json
import shutil
from dataclasses import asdict, replace

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from toy_jets import toys

import hepfm
from hepfm import cli, manifest
from hepfm.errors import InputError
from hepfm.exporting import FORMATS, export
from hepfm.formats.hdf5 import content_digest, read_shard, write_shard
from hepfm.formats.parquet import write_parquet
from hepfm.formats.root import write_root
from hepfm.publishing import stage
from hepfm.table import matching_rows
from hepfm.training.source import first_variation, open_source

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


@pytest.mark.parametrize("to", ["parquet", "root"])
def test_a_file_that_is_read_is_not_replaced(tmp_path, to):
    path = tmp_path / f"jets.{to}"
    table = toys(20)
    plain = replace(table, columns={"jet_pt": table.columns["jet_sdmass"], "jet_label": table.columns["jet_label"]})
    {"parquet": write_parquet, "root": write_root}[to](path, [plain], *([{}] if to == "parquet" else []))
    before = path.read_bytes()
    with pytest.raises(InputError, match="is read here, and would be replaced"):
        export(path, tmp_path, to)
    assert path.read_bytes() == before
    assert export(path, tmp_path / "out", to).n_jets == 20


def test_of_a_pattern_the_nominal_views_come_first(tmp_path):
    for name in ("cp5", "nominal", "vincia"):
        table = toys(10)
        columns = table.columns | {"variation": np.full(10, name)}
        write_parquet(tmp_path / f"{name}.parquet", [replace(table, columns=columns)], {})
    data = open_source(f"{tmp_path}/*.parquet")
    assert (data.variations, first_variation(data)) == (("nominal", "cp5", "vincia"), "nominal")
    assert len(open_source(f"{tmp_path}/[cv]*.parquet")) == 20


@pytest.mark.parametrize("name", ["events.lhe", "events.hepmc", "recipe.toml", "empty", "jets.root"])
def test_a_file_of_no_known_format_is_one_clear_line(tmp_path, name):
    (tmp_path / name).write_text("" if name == "empty" else "<LesHouchesEvents>")
    with pytest.raises(InputError, match=rf"{name}: of no known format, or of events without jets: resim --lhe"):
        hepfm.open(tmp_path / name)


def test_jets_without_events_are_not_split_without_a_word(tmp_path):
    table = toys(10)
    columns = {name: table.columns[name] for name in ("jet_sdmass", "jet_label")}
    write_parquet(tmp_path / "jets.parquet", [replace(table, columns=columns)], {})
    with pytest.raises(InputError, match="lack the event_id, by which jets are split"):
        hepfm.open(tmp_path / "jets.parquet").read(["jet_label"], split="train")


def test_a_variation_without_jets_has_no_file(small_campaign, tmp_path):
    """As of a campaign that was interrupted, or of which no jet passes."""
    name, *others = hepfm.open(small_campaign[1]).variations
    copy = shutil.copytree(small_campaign[1], tmp_path / "campaign")
    records = manifest.read(copy)
    for number, record in enumerate(records):
        if record.variation == name:
            write_shard(copy / record.path, read_shard(copy / record.path).slice(0, 0), {})
            records[number] = replace(record, n_jets=0)
    (copy / "shards.jsonl").write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    assert [path.stem for path in export(copy, tmp_path / "out", "root").paths] == others
    assert {file.variation for file in stage(copy, tmp_path / "staged")} == set(others)


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


def test_rs3l_has_all_views_of_a_jet_side_by_side_and_all_that_it_carries_comes_back(campaign, tmp_path):
    exported = export(campaign.name, tmp_path, "rs3l")
    one, two = campaign.pairs(*campaign.variations)
    back = hepfm.open(exported.paths)

    assert (back.variations, set(back.processes)) == (campaign.variations, set(campaign.processes))
    with h5py.File(exported.paths[0]) as file:
        assert file["singletons"].shape[:2] == (len(one), 2)
    lost = {name for name in campaign.columns if name not in back.columns}
    assert lost == {"part_d0err", "part_dzerr"}
    assert f"not carried: {', '.join(sorted(lost))}" in exported.left_out
    for variation, views in zip(campaign.variations, (one, two), strict=True):
        read = back.read(variation=variation)
        order = np.lexsort((read.jet_index.to_numpy(), read.event_id.to_numpy()))
        for name in back.columns:
            ours, theirs = ak.flatten(views[name], axis=None), ak.flatten(read[order][name], axis=None)
            if name in ("part_deta", "part_dphi"):
                np.testing.assert_allclose(theirs, ours, atol=1e-6)
            elif name in ("part_d0val", "part_dzval"):
                near = np.abs(ours) < 8
                assert ak.all(theirs[near] == ours[near]), name
                assert ak.all(np.sign(theirs) == np.sign(ours)), name
            else:
                assert ak.all(theirs == ours), name


def test_the_number_of_jets_is_that_of_what_was_written(campaign, tmp_path):
    """Of views side by side only the jets that all of them have."""
    one, two = (campaign.read_table(variation=name) for name in campaign.variations)
    _, common = matching_rows(one, two)
    write_parquet(tmp_path / "both.parquet", [one, two.select(common[:10])], {})
    n_alone = one.n_jets - 10

    for to in FORMATS:
        exported = export(tmp_path / "both.parquet", tmp_path / to, to)
        assert exported.n_jets == len(hepfm.open(exported.paths)) == (20 if to == "rs3l" else one.n_jets + 10)
        said = f"{n_alone} of {one.n_jets + 10} jets were left out, for not all views have them"
        assert (said in exported.left_out) == (to == "rs3l")


def test_omnilearned_has_the_splits_in_folders_and_the_jets_columns_come_back(campaign, tmp_path):
    paths = export(campaign.name, tmp_path, "omnilearned").paths

    assert {str(path.relative_to(tmp_path)) for path in paths} <= {
        f"{folder}/{variation}.h5" for folder in ("train", "val", "test") for variation in campaign.variations
    }
    for path in paths:
        split = {"train": "train", "val": "validation", "test": "test"}[path.parent.name]
        ours, back = campaign.read(variation=path.stem, split=split), hepfm.open(path).read()
        for name in campaign.columns:
            if not name.startswith("part_"):
                assert back[name].to_list() == ours[name].to_list(), name
        for name in ("px", "py", "pz", "energy"):
            np.testing.assert_allclose(
                ak.flatten(back[f"part_{name}"]), ak.flatten(ours[f"part_{name}"]), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("to", list(FORMATS))
def test_classes_of_other_origin_survive(campaign, tmp_path, to):
    source, table = tmp_path / "foreign.parquet", campaign.read_table(variation="quick")
    table.columns["jet_label"] = (np.arange(table.n_jets) % 2).astype(table.columns["jet_label"].dtype)
    write_parquet(source, [table], {}, FOREIGN_CLASSES)
    assert hepfm.open(source).classes == FOREIGN_CLASSES

    back = hepfm.open(export(source, tmp_path / to, to).paths)

    assert back.classes == FOREIGN_CLASSES
    assert sorted(back.read(["jet_label"]).jet_label.to_list()) == sorted(table.columns["jet_label"].tolist())


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "rs3l"])
def test_tables_of_any_layout_are_converted_through_their_column_map(table_file, tmp_path, to):
    original = hepfm.open(table_file, columns="top-tagging")
    exported = export(table_file, tmp_path, to, columns="top-tagging")
    back = hepfm.open(exported.paths)

    assert back.read(["jet_pt"]).jet_pt.to_list() == original.read(["jet_pt"]).jet_pt.to_list()
    assert any("no event_id" in note for note in exported.left_out) == (to == "omnilearned")


def test_jets_without_what_a_format_needs_are_one_clear_line_and_leave_no_file(table_file, tmp_path):
    with pytest.raises(InputError, match=r"cannot write jets as RS3L has them without the column 'jet_flavour'$"):
        export(table_file, tmp_path, "rs3l", columns="top-tagging")
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_a_column_map(table_file, tmp_path):
    arguments = [str(table_file), "--columns", "top-tagging", "--to", "parquet", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli.cli, ["export", *arguments])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_jets"] == 3
    assert "200 hardest constituents" in done.stderr
    assert hepfm.open(tmp_path / "jets.parquet").read(["jet_pt"]).jet_pt.to_list() == pytest.approx(
        [100, 80, 3 * np.hypot(60, 10)]
    )


def test_a_column_map_is_for_files(campaign, table_file, tmp_path):
    with pytest.raises(InputError, match="columns= is for files of tables"):
        hepfm.open(campaign.name, columns="top-tagging")
    with pytest.raises(InputError, match=r"no part_px and part_py with a list of any length a jet, but E_0 .*columns="):
        hepfm.open(table_file)


def test_a_folder_in_a_list_of_files_is_one_clear_line(campaign, table_file):
    with pytest.raises(InputError, match=r"campaign: is a folder; expected a list of files\. [^\n]*$"):
        hepfm.open([campaign.name])
    with pytest.raises(InputError, match="is a folder; expected a list of files"):
        hepfm.open([table_file, table_file.parent], columns="top-tagging")


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "", ".hidden"])
def test_what_a_file_calls_its_variations_decides_on_no_path(tmp_path, name):
    write_parquet(tmp_path / "jets.parquet", [toys(4, variation=name)], {})
    with pytest.raises(InputError, match=r"variation '.*' cannot name a file"):
        export(tmp_path / "jets.parquet", tmp_path / "out" / "deep", "root")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["jets.parquet"]


@pytest.mark.parametrize("command", [("export", "jets.parquet", "--to", "root"), ("report", "jets.parquet")])
def test_a_store_is_no_place_to_export_to_and_no_folder_is_made_of_its_name(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "jets.parquet", [toys(4)], {})
    done = CliRunner().invoke(cli.cli, [*command, "--out", "s3://bucket/jets"])
    assert done.exit_code == 2
    assert "expected a local path" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["jets.parquet"]


def test_a_mistyped_path_is_not_asked_for_on_the_hub_and_any_iterable_of_files_will_do(tmp_path):
    with pytest.raises(InputError, match=r"sub/jets\.root: no such file or folder"):
        hepfm.open("sub/jets.root")
    write_parquet(tmp_path / "a.parquet", [toys(4)], {})
    write_parquet(tmp_path / "b.parquet", [toys(3)], {})
    assert len(hepfm.open(sorted(tmp_path.glob("*.parquet")))) == len(hepfm.open(tmp_path.glob("*.parquet"))) == 7
