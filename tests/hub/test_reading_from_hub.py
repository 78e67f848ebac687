"""Read a published dataset with `datasets` and with hepfm, as somebody who has only its name."""

import json
import re

import pytest
from conftest import REPO, Client
from server import EXPIRED

import hepfm
from hepfm.formats.hdf5 import content_digest
from hepfm.schema import SPLITS

KEY = ("datasets", REPO)


@pytest.fixture
def stranger(published, tmp_path):
    """A client without a token, and with an empty cache."""
    client = Client(published.hub, tmp_path)
    return lambda *command, **options: client(*command, **{"token": None, **options})


@pytest.fixture(scope="module")
def ours(small_campaign) -> hepfm.Dataset:
    return hepfm.open(small_campaign[1])


def test_the_lines_of_the_card_work(published, stranger):
    codes = re.findall(r"```python\n(.*?)```", published.hub.repositories[KEY].text("README.md"), re.DOTALL)

    assert len(codes) == 2
    assert f'load_dataset("{REPO}"' in codes[0]
    stranger("\n".join(codes))


def test_load_dataset_takes_configuration_split_revision_streaming_and_columns(stranger, ours):
    program = f"""
import json
from datasets import disable_progress_bars, load_dataset
disable_progress_bars()
everything = load_dataset("{REPO}", "all")
shifted = load_dataset("{REPO}", "quick-fsr-up", split="train", revision="v1")
streamed = load_dataset("{REPO}", split="validation", streaming=True)
narrow = load_dataset("{REPO}", "all", split="test", columns=["jet_pt", "variation"])
several = load_dataset("{REPO}", "quick", split="train+test")
print(json.dumps({{
    "all": {{split: part["event_id"][:] for split, part in everything.items()}},
    "classes": everything["train"].features["jet_label"].names,
    "shifted": [shifted["jet_pt"][:], sorted(set(shifted["variation"]))],
    "streamed": [row["part_px"] for row in streamed],
    "narrow": [sorted(narrow.column_names), narrow["jet_pt"][:]],
    "several": len(several),
}}))
"""
    found = json.loads(stranger(program).stdout)
    quick = {split: ours.read(variation="quick", split=split) for split in SPLITS}

    assert found["all"] == {split: ours.read(["event_id"], split=split).event_id.to_list() for split in SPLITS}
    assert found["classes"] == list(ours.classes)
    shifted = ours.read(["jet_pt"], variation="quick-fsr-up", split="train")
    assert found["shifted"] == [shifted.jet_pt.to_list(), ["quick-fsr-up"]]
    assert found["streamed"] == quick["validation"].part_px.to_list()
    assert found["narrow"] == [["jet_pt", "variation"], ours.read(["jet_pt"], split="test").jet_pt.to_list()]
    assert found["several"] == len(quick["train"]) + len(quick["test"])


def test_opened_dataset_has_the_campaigns_jets_bit_by_bit_and_pairs_its_views(stranger, ours):
    program = f"""
import json
import hepfm
from hepfm.formats.hdf5 import content_digest
data = hepfm.open("{REPO}", revision="v2")
parts = [content_digest(data.read_table(variation=v, split=s)) for v in data.variations for s in {SPLITS}]
views = [[view.event_id.to_list(), view.particles.pt.to_list()] for view in data.pairs("quick", "quick-fsr-up")]
event = int(data.read(["event_id"]).event_id[3])
batches = sum(len(batch) for batch in data.batches(7, split="train"))
print(json.dumps([parts, views, data.views(event).to_list(), batches, list(data.classes)]))
"""
    parts, views, event, n_in_batches, classes = json.loads(stranger(program).stdout)
    read = [ours.read_table(variation=v, split=s) for v in ours.variations for s in SPLITS]

    assert parts == [content_digest(table) for table in read]
    pairs = ours.pairs("quick", "quick-fsr-up")
    assert views == [[view.event_id.to_list(), view.particles.pt.to_list()] for view in pairs]
    assert event == ours.views(int(ours.read(["event_id"]).event_id[3])).to_list()
    assert n_in_batches == len(ours.read(["jet_pt"], split="train"))
    assert tuple(classes) == ours.classes


def test_files_are_fetched_when_they_are_needed_and_kept(published, stranger):
    log = published.hub.log
    log.clear()
    program = f"import hepfm; print(hepfm.open('{REPO}').read(['jet_pt'], variation='quick', split='test').jet_pt)"
    first = stranger(program).stdout
    fetched = {path for method, path, _ in log if method == "GET" and path.startswith("/storage/")}
    log.clear()
    second = stranger(program).stdout
    offline = stranger(program, HF_HUB_OFFLINE="1").stdout

    assert len(fetched) == 1
    assert first == second == offline
    assert not any(path.startswith("/storage/") for _, path, _ in log)


def test_what_cannot_be_opened_is_one_clear_line(published, stranger):
    repository = published.hub.repositories[KEY]
    published.hub.repositories["datasets", "hepfm/private"] = type(repository)("hepfm", private=True)
    program = """
import hepfm, sys
from hepfm.errors import HepfmError
for repo, revision in (("hepfm/nothing", None), ("hepfm/private", None), ("hepfm/resim-jets", "v3")):
    try:
        hepfm.open(repo, revision=revision)
    except HepfmError as error:
        print(type(error).__name__, error)
"""
    found = stranger(program).stdout.splitlines()
    with_token = stranger(program, token="hf_reader").stdout.splitlines()
    expired = stranger(program, token=EXPIRED).stdout.splitlines()
    away = stranger(program, HF_HUB_OFFLINE="1").stdout.splitlines()

    assert len(found) == len(with_token) == len(expired) == len(away) == 3
    for line in found[:2]:
        assert "no such dataset on the Hub, or it is private" in line
    assert "InputError hepfm/resim-jets: has no such revision" in found[2]
    assert "InputError hepfm/private: lacks a file that hepfm's datasets have" in with_token[1]
    assert all("an expired one. Log in: hf auth login" in line for line in expired)
    assert all("StorageError" in line and "cannot be reached" in line for line in away)
