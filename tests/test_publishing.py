import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from toy_jets import write_toys

import hepfm
from hepfm import manifest
from hepfm.atomic import file_digest
from hepfm.cli import cli
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hdf5 import content_digest
from hepfm.formats.hub_layout import INDEX
from hepfm.publishing import CARD, stage
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.schema import SPLITS, split_of


@pytest.fixture(scope="module")
def staged(small_campaign, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("staged") / "resim-jets"
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    return out


@pytest.fixture
def load(staged, tmp_path):
    return lambda *names, **options: datasets.load_dataset(str(staged), *names, cache_dir=str(tmp_path), **options)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("variation", ["quick", "quick-fsr-up"])
def test_each_split_of_each_variation_has_the_campaigns_jets_bit_by_bit(small_campaign, staged, variation, split):
    ours = hepfm.open(small_campaign[1]).read_table(variation=variation, split=split)

    assert content_digest(hepfm.open(staged).read_table(variation=variation, split=split)) == content_digest(ours)


def test_staged_folder_opens_like_the_campaign(small_campaign, staged):
    ours, campaign = hepfm.open(staged), hepfm.open(small_campaign[1])

    assert (len(ours), ours.variations, ours.classes) == (len(campaign), campaign.variations, campaign.classes)
    assert set(ours.processes) == set(campaign.processes)
    for one, two in zip(ours.pairs(*ours.variations), campaign.pairs(*ours.variations), strict=True):
        assert one.to_list() == two.to_list()
    event = int(campaign.read(["event_id"]).event_id[3])
    assert ours.views(event).to_list() == campaign.views(event).to_list()


def test_datasets_loads_variations_as_configurations_and_the_first_by_default(small_campaign, load):
    campaign = hepfm.open(small_campaign[1])

    for names, wanted in (((), "quick"), (("quick-fsr-up",), "quick-fsr-up"), (("all",), None)):
        loaded = load(*names)
        assert list(loaded) == list(SPLITS)
        for split, part in loaded.items():
            expected = campaign.read_table(["event_id", "variation"], variation=wanted, split=split).columns
            assert part["event_id"][:] == expected["event_id"].tolist()
            assert set(part["variation"]) == set(expected["variation"])
    with pytest.raises(ValueError, match=r"'vincia' not found.*quick-fsr-up"):
        load("vincia")


def test_datasets_streams_and_takes_splits_and_columns(load):
    train = load(split="train")
    streamed = load(split="train", streaming=True)
    narrow = load(split="test", columns=["jet_pt", "part_px"])

    assert [row["part_px"] for row in streamed] == train["part_px"][:]
    assert narrow.column_names == ["jet_pt", "part_px"]
    assert set(split_of(np.array(train["event_id"][:]))) == {0}


def test_staging_again_changes_nothing_and_an_interrupted_one_is_finished(small_campaign, staged, tmp_path):
    out = shutil.copytree(staged, tmp_path / "copy")
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    (out / "data" / "quick" / "train-00000-of-00001.parquet").unlink()
    for name in (INDEX, CARD):  # they come last
        (out / name).unlink()
    stage(small_campaign[1], out, repo="hepfm/resim-jets")

    assert bytes_of(out) == bytes_of(staged)
    kept = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp}
    assert len(kept) == len(stamps) - 1


def test_nothing_half_written_is_left_by_an_error(small_campaign, tmp_path, monkeypatch):
    monkeypatch.setattr("hepfm.publishing._TABLE_JETS", 5)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(small_campaign[1], tmp_path / "out", report=stop)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_interruption_while_files_are_replaced_leaves_nothing_that_opens(small_campaign, staged, tmp_path, monkeypatch):
    """Files have the same names as before, and other jets."""
    out = shutil.copytree(staged, tmp_path / "copy")
    old = shutil.copy(out / "data/quick/test-00000-of-00001.parquet", out / "data/quick/train-00000-of-00001.parquet")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hepfm.publishing.write_pictures", stop)
        stage(small_campaign[1], out, repo="hepfm/resim-jets")
    assert pq.read_metadata(old).num_rows > 0
    with pytest.raises(CampaignError, match="not a campaign folder"):
        hepfm.open(out)
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    assert bytes_of(out) == bytes_of(staged)


def test_files_of_an_earlier_state_are_replaced(small_campaign, staged, tmp_path):
    """What is left of another campaign, or of more and larger files, must not be read with the new ones."""
    out = shutil.copytree(staged, tmp_path / "copy")
    shutil.copytree(out / "data" / "quick", out / "data" / "gone")
    shutil.copy(out / "data/quick/test-00000-of-00001.parquet", out / "data/quick/train-00000-of-00001.parquet")
    shutil.copy(out / "data/quick/test-00000-of-00001.parquet", out / "data/quick/test-00001-of-00002.parquet")
    stage(small_campaign[1], out, repo="hepfm/resim-jets")

    assert bytes_of(out) == bytes_of(staged)


@pytest.mark.parametrize("name", ["README.md", "data/cms2016/muons.parquet", "thesis/notes.txt"])
def test_a_folder_of_other_files_is_left_as_it_is(small_campaign, tmp_path, name):
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holds .*Choose an empty or a new folder"):
        stage(small_campaign[1], tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]
    assert theirs.read_bytes() == b"mine"


def test_a_file_of_somebody_else_among_converted_ones_stays(small_campaign, staged, tmp_path):
    out = shutil.copytree(staged, tmp_path / "copy")
    theirs = write_toys(out / "data" / "mine" / "muons.parquet")
    stage(small_campaign[1], out, repo="hepfm/resim-jets")
    assert theirs.exists()


def test_a_campaign_is_not_converted_into_itself_by_another_name(small_campaign, tmp_path, monkeypatch):
    campaign = shutil.copytree(small_campaign[1], tmp_path / "campaign")
    monkeypatch.chdir(campaign)
    with pytest.raises(InputError, match="is a campaign itself"):
        stage(campaign, Path())


def test_large_splits_become_several_files_with_the_same_jets(small_campaign, staged, tmp_path, monkeypatch):
    monkeypatch.setattr("hepfm.publishing._TABLE_JETS", 7)
    monkeypatch.setattr("hepfm.publishing._FILE_JETS", 10)
    seen = []
    files = stage(small_campaign[1], tmp_path / "small", report=lambda *progress: seen.append(progress))

    assert {file.n_jets for file in files} <= set(range(1, 11))
    assert sum(file.n_jets for file in files) == len(hepfm.open(staged)) == seen[-1][1] == seen[-1][2]
    assert {name for name, _, _ in seen} == {file.variation for file in files}
    ours, theirs = (hepfm.open(folder).read_table() for folder in (tmp_path / "small", staged))
    assert content_digest(ours) == content_digest(theirs)
    victim = tmp_path / "small" / files[1].path
    before = bytes_of(tmp_path / "small")
    victim.unlink()
    stage(small_campaign[1], tmp_path / "small")
    assert bytes_of(tmp_path / "small") == before


def test_index_has_the_digest_of_every_file(staged):
    files = json.loads((staged / INDEX).read_text())["files"]

    assert {file["path"]: file["sha256"] for file in files} == {
        str(path.relative_to(staged)): file_digest(path) for path in staged.rglob("*.parquet")
    }


def test_what_cannot_be_staged_is_one_clear_line(small_campaign, tmp_path):
    with pytest.raises(CampaignError, match="not a campaign folder"):
        stage(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="is a campaign itself"):
        stage(small_campaign[1], small_campaign[1])
    (tmp_path / manifest.HEADER).write_text("{}")
    shutil.copy(small_campaign[1] / CAMPAIGN_FILE, tmp_path)
    with pytest.raises(CampaignError, match="has no jets yet"):
        stage(tmp_path, tmp_path / "out")


def test_a_published_folder_is_no_campaign_and_stays_what_it_was(small_campaign, tmp_path):
    stage(small_campaign[1], tmp_path / "staged")
    before = bytes_of(tmp_path)
    for out in ("staged", "other"):
        with pytest.raises(CampaignError, match="staged is not a campaign folder"):
            stage(tmp_path / "staged", tmp_path / out)
    assert bytes_of(tmp_path) == before
    assert CliRunner().invoke(cli, ["export", str(tmp_path / "staged"), "--out", str(tmp_path / "copy")]).exit_code == 0
    assert len(hepfm.open(tmp_path / "copy" / "quick.parquet")) > 0
    assert bytes_of(tmp_path / "staged") == {name.removeprefix("staged/"): value for name, value in before.items()}


def test_a_converted_file_that_was_damaged_since_is_made_again(small_campaign, tmp_path):
    files = stage(small_campaign[1], tmp_path)
    before = bytes_of(tmp_path)
    path = tmp_path / files[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    stage(small_campaign[1], tmp_path)
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: "{", "damaged, or not a dataset"),
        (lambda index: json.dumps({**index, "format": "other"}), "has version None of the format"),
        (lambda index: json.dumps({**index, "format_version": 99}), r"has version 99 of the format.*Update hepfm"),
        (lambda index: json.dumps({**index, "files": [{"path": "x"}]}), "damaged, or not a dataset"),
    ],
)
def test_damaged_index_is_one_clear_line(staged, tmp_path, damage, message):
    (tmp_path / INDEX).write_text(damage(json.loads((staged / INDEX).read_text())))
    with pytest.raises(InputError, match=message):
        hepfm.open(tmp_path)


def test_file_that_is_not_what_the_index_says_is_one_clear_line(small_campaign, tmp_path):
    files = stage(small_campaign[1], tmp_path)
    assert replace(files[0], n_jets=1) != files[0]
    path = tmp_path / files[0].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet: damaged"):
        hepfm.open(tmp_path).read()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        hepfm.open(tmp_path).read()
