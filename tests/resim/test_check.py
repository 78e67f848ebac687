"""Damage of every kind is found in a campaign."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hepfm import manifest
from hepfm.atomic import file_digest
from hepfm.errors import CampaignError, HepfmError
from hepfm.formats.hdf5 import read_attributes, read_shard, write_shard
from hepfm.resim import Campaign, repair
from hepfm.resim.check import check_campaign
from hepfm.resim.hard import read_block, write_block
from hepfm.table import JetTable

SHARD = "shards/quick/QCD-000000.h5"
SAME_EVENTS = "shards/quick-fsr-up/QCD-000000.h5"
OTHER_CHUNK = "shards/quick/QCD-000001.h5"


@pytest.fixture
def folder(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> Path:
    """A sound campaign in a folder of one's own."""
    return shutil.copytree(small_campaign[1], tmp_path / "copy")


def record_again(folder: Path, path: str, **changes: object) -> None:
    """Make the manifest agree with a shard that was changed."""
    file = folder / manifest.SHARDS
    lines = []
    for record in manifest.read(folder):
        if record.path == path:
            record = replace(record, sha256=file_digest(folder / path), **changes)
        lines.append(json.dumps(asdict(record)) + "\n")
    file.write_text("".join(lines), encoding="utf-8")


def rewrite(folder: Path, path: str, change: Callable[[JetTable], JetTable]) -> None:
    """Write a shard that is a valid file of other contents, and record it."""
    table = change(read_shard(folder / path))
    write_shard(folder / path, table, read_attributes(folder / path))
    record_again(folder, path, n_jets=table.n_jets)


def problems(folder: Path) -> list[str]:
    found = check_campaign(folder).problems
    assert all("\n" not in problem for problem in found)
    return found


def with_column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[JetTable], JetTable]:
    def changed(table: JetTable) -> JetTable:
        columns, constituents = dict(table.columns), dict(table.constituents)
        group = columns if name in columns else constituents
        group[name] = change(group[name].copy()).astype(group[name].dtype)
        return JetTable(columns, table.offsets, constituents)

    return changed


def first_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[0] = value
        return values

    return change


def test_sound_campaign_has_no_problems_and_everything_was_looked_at(
    small_campaign: tuple[Campaign, Path],
) -> None:
    campaign, folder = small_campaign
    findings = check_campaign(folder)
    assert findings.problems == []
    records = manifest.read(folder)
    assert findings.checked["shards"] == len(records) == campaign.n_shards
    assert findings.checked["jets"] == sum(r.n_jets for r in records) > 0
    assert findings.checked["constituents"] > 10 * findings.checked["jets"]


def test_folder_may_be_given_as_text(small_campaign: tuple[Campaign, Path]) -> None:
    assert check_campaign(str(small_campaign[1])).problems == []


@pytest.mark.parametrize("where", [0.0, 0.5, 0.99])
def test_flipped_byte_is_found(folder: Path, where: float) -> None:
    content = bytearray((folder / SHARD).read_bytes())
    content[int(where * len(content))] ^= 1
    (folder / SHARD).write_bytes(content)
    assert problems(folder) == [f"{SHARD}: damaged, its sha256 is not the one recorded"]


@pytest.mark.parametrize("n_bytes", [0, 100, 20_000])
def test_truncated_shard_is_found_even_if_the_manifest_knows_its_digest(folder: Path, n_bytes: int) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:n_bytes])
    assert len(problems(folder)) == 1
    record_again(folder, SHARD)
    (problem,) = problems(folder)
    assert problem.startswith(f"{SHARD}: ")


def test_missing_shard_is_found(folder: Path) -> None:
    (folder / SHARD).unlink()
    (problem,) = problems(folder)
    assert SHARD in problem


def test_damaged_files_are_named_for_a_repair(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / OTHER_CHUNK).write_bytes((folder / OTHER_CHUNK).read_bytes()[:-1])
    block = folder / "hard" / "Hbb-000000.lhe.gz"
    block.write_bytes(block.read_bytes()[:-1])
    findings = check_campaign(folder)
    assert sorted(findings.damaged_shards) == [SHARD, OTHER_CHUNK]
    assert findings.damaged_blocks == ["hard/Hbb-000000.lhe.gz"]
    assert len(findings.problems) == 3


def test_shard_without_record_is_a_task_that_is_not_done(folder: Path) -> None:
    file = folder / manifest.SHARDS
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if f'"{SHARD}"' not in line), encoding="utf-8")
    (problem,) = problems(folder)
    assert problem.startswith("1 of 8 shards are not done")


def test_record_of_another_campaign_is_found(folder: Path) -> None:
    record = manifest.read(folder)[0]
    with manifest.recorder(folder) as add:
        add(replace(record, path="shards/nominal/QCD-000000.h5"))
    (problem,) = problems(folder)
    assert problem == "shards/nominal/QCD-000000.h5: in the manifest but not of this campaign"


def test_swapped_shards_of_two_variations_are_found(folder: Path) -> None:
    first, second = folder / SHARD, folder / SAME_EVENTS
    spare = folder / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    assert len(problems(folder)) == 2, "the digests"
    n_jets = {path: read_shard(folder / path).n_jets for path in (SHARD, SAME_EVENTS)}
    for path in (SHARD, SAME_EVENTS):
        record_again(folder, path, n_jets=n_jets[path])
    assert {f"{path}: view or variation is not the shard's" for path in (SHARD, SAME_EVENTS)} <= set(problems(folder))


def test_shards_of_two_chunks_that_were_swapped_are_found(folder: Path) -> None:
    for path, other in ((SHARD, OTHER_CHUNK), (OTHER_CHUNK, SHARD)):
        (folder / path).rename(folder / (Path(other).stem + ".spare"))
    for path in (SHARD, OTHER_CHUNK):
        (folder / (Path(path).stem + ".spare")).rename(folder / path)
        record_again(folder, path, n_jets=read_shard(folder / path).n_jets)
    found = problems(folder)
    assert f"{SHARD}: holds events of another chunk" in found
    assert f"{OTHER_CHUNK}: holds events of another chunk" in found


def test_shard_of_another_process_is_found(folder: Path) -> None:
    shutil.copy(folder / "shards/quick/Hbb-000000.h5", folder / SHARD)
    record_again(folder, SHARD, n_jets=read_shard(folder / SHARD).n_jets)
    assert f"{SHARD}: holds events of another chunk" in problems(folder)


def test_constituents_out_of_order_are_found(folder: Path) -> None:
    def reorder(table: JetTable) -> JetTable:
        order = np.arange(table.n_constituents)
        order[:5] = order[:5][::-1]
        return JetTable(table.columns, table.offsets, {n: v[order] for n, v in table.constituents.items()})

    rewrite(folder, SHARD, reorder)
    assert problems(folder) == [f"{SHARD}: constituents are not in order of pt"]


def test_constituents_that_moved_to_the_neighbouring_jet_are_found(folder: Path) -> None:
    def move(table: JetTable) -> JetTable:
        offsets = table.offsets.copy()
        offsets[1] += 1
        return JetTable(table.columns, offsets, table.constituents)

    rewrite(folder, SHARD, move)
    found = problems(folder)
    assert f"{SHARD}: jet_nparticles is not the number of constituents" in found


def test_rewriting_a_sound_shard_changes_nothing(folder: Path) -> None:
    rewrite(folder, SHARD, lambda table: table)
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("jet_pt", lambda v: v * 1.01, "jet_pt is not that of the sum of the constituents"),
        ("jet_energy", lambda v: v * 1.01, "jet_energy is not that of the sum of the constituents"),
        ("jet_eta", lambda v: -v, "jet_eta is not that of the sum of the constituents"),
        ("jet_phi", lambda v: v / 2, "jet_phi is not that of the sum of the constituents"),
        ("jet_sdmass", lambda v: -v, "jet_sdmass is negative"),
        ("jet_tau1", first_value(np.nan), "jet_tau1 holds values that are not finite"),
        ("part_px", first_value(np.inf), "part_px holds values that are not finite"),
        ("part_d0val", first_value(np.nan), "part_d0val holds values that are not finite"),
        ("weight", first_value(np.nan), "weight holds values that are not finite"),
        ("event_id", lambda v: v + 2, "holds events of another chunk"),
        ("event_id", first_value(59), "holds events of another chunk"),
        ("view", lambda v: v + 1, "view or variation is not the shard's"),
        ("truth_pt", lambda v: v + 1, "is not the same as in another view"),
        ("jet_label", lambda v: 1 - v, "is not the same as in another view"),
        ("weight", lambda v: v * 2, "is not the same as in another view"),
    ],
)
def test_impossible_values_are_found(
    folder: Path, column: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    rewrite(folder, SHARD, with_column(column, change))
    assert any(said in problem for problem in problems(folder)), problems(folder)


def test_jet_that_appears_twice_is_found(folder: Path) -> None:
    rewrite(folder, SHARD, lambda table: JetTable.concatenate([table, table.slice(0, 1)]))
    assert f"{SHARD}: an (event_id, jet_index) appears twice" in problems(folder)


def test_jet_that_was_lost_is_found(folder: Path) -> None:
    table = read_shard(folder / SHARD)
    write_shard(folder / SHARD, table.slice(0, table.n_jets - 1), {})
    record_again(folder, SHARD)
    assert problems(folder) == [f"{SHARD}: {table.n_jets - 1} jets, {table.n_jets} recorded"]


def test_shard_that_misses_a_column_is_found(folder: Path) -> None:
    with h5py.File(folder / SHARD, "a") as file:
        del file["jets/jet_tau4"]
    record_again(folder, SHARD)
    (problem,) = problems(folder)
    assert "jet_tau4" in problem


def test_every_problem_is_reported_and_not_the_first_alone(folder: Path) -> None:
    rewrite(folder, SHARD, with_column("jet_pt", lambda v: v * 1.01))
    (folder / OTHER_CHUNK).unlink()
    (folder / "shards/quick/Hbb-000000.h5").write_bytes(b"")
    assert len(problems(folder)) >= 3


def test_frozen_events_that_are_gone_or_damaged_are_found(folder: Path) -> None:
    (folder / "hard/QCD-000000.lhe.gz").unlink()
    block = folder / "hard/Hbb-000000.lhe.gz"
    block.write_bytes(block.read_bytes()[:-50])
    found = problems(folder)
    assert any("QCD-000000.lhe.gz" in problem for problem in found)
    assert any("Hbb-000000.lhe.gz" in problem for problem in found)


@pytest.mark.parametrize("share", [0, 0.5, 0.999], ids=["empty", "half", "last line"])
def test_frozen_events_that_end_too_early_are_found_and_made_again(folder: Path, share: float) -> None:
    # What unpacks without an error says nothing of how much there was.
    path = "hard/QCD-000000.lhe.gz"
    whole = (folder / path).read_bytes()
    text = gzip.decompress(whole)
    (folder / path).write_bytes(gzip.compress(text[: int(share * len(text))]) if share else b"")
    assert problems(folder) == [f"{path}: the frozen events cannot be read (empty or cut off)"]
    assert repair(folder)[1] == [path]
    assert (folder / path).read_bytes() == whole
    assert problems(folder) == []


def test_frozen_events_of_which_some_are_missing_are_found_and_made_again(folder: Path) -> None:
    path = "hard/QCD-000000.lhe.gz"
    whole = (folder / path).read_bytes()
    write_block(folder / path, read_block(folder / path).take(np.arange(20)))
    assert problems(folder) == [f"{path}: the frozen events cannot be read (20 of 30)"]
    assert repair(folder)[1] == [path]
    assert (folder / path).read_bytes() == whole


def test_folder_that_is_no_campaign_is_one_clear_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(HepfmError) as raised:
            check_campaign(folder)
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_unfinished_campaign_is_checked_as_far_as_it_got(folder: Path) -> None:
    file = folder / manifest.SHARDS
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:3]), encoding="utf-8")
    findings = check_campaign(folder)
    assert findings.checked["shards"] == 3
    (problem,) = findings.problems
    assert problem.startswith("5 of 8 shards are not done; run `hepfm-data resim` again")


def test_a_folder_without_campaign_is_one_clear_line(tmp_path: Path) -> None:
    for look in (check_campaign, repair):
        with pytest.raises(CampaignError, match=r"nowhere is not a campaign folder: it has no campaign\.toml"):
            look(tmp_path / "nowhere")
