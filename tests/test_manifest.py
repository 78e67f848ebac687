import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from hepfm import manifest
from hepfm.errors import HepfmError
from hepfm.manifest import ShardRecord

RECORD = ShardRecord(
    path="shards/nominal/QCD-000000.h5",
    sha256="ab" * 32,
    variation="nominal",
    process="QCD",
    chunk=0,
    n_events=250,
    n_jets=123,
    n_missing=2,
    n_retried=3,
    n_without_jet=110,
    n_bytes=4567,
    cross_sections={"QCD-000000": [1.5, 0.25]},
    missing=[3, 77],
    seconds={"shower": 1.25, "detector": 0.5},
)


def other(chunk: int) -> ShardRecord:
    return replace(RECORD, path=f"shards/nominal/QCD-{chunk:06}.h5", chunk=chunk)


def test_records_come_back_as_they_were_appended(tmp_path):
    manifest.append(tmp_path, RECORD)
    manifest.append(tmp_path, other(1))

    assert manifest.read(tmp_path) == [RECORD, other(1)]


def test_the_last_record_of_a_path_holds(tmp_path):
    for record in (RECORD, other(1), replace(RECORD, n_jets=124)):
        manifest.append(tmp_path, record)

    assert manifest.read(tmp_path) == [replace(RECORD, n_jets=124), other(1)]


@pytest.mark.parametrize("n_lost", [1, 2, 20, 150])
def test_a_torn_line_counts_as_never_written_and_the_next_record_is_safe(tmp_path, n_lost):
    manifest.append(tmp_path, RECORD)
    manifest.append(tmp_path, other(1))
    file = tmp_path / manifest.SHARDS
    file.write_bytes(file.read_bytes()[:-n_lost])
    # Without its newline alone the record is complete.
    survivors = [RECORD, other(1)] if n_lost == 1 else [RECORD]

    assert manifest.read(tmp_path) == survivors
    manifest.append(tmp_path, other(2))
    assert manifest.read(tmp_path) == [*survivors, other(2)]


@pytest.mark.parametrize("damage", [b'{"path": 1', b"[1, 2]", b'{"path": "x"}', b"\xff\xfe"])
def test_a_damaged_line_is_refused_by_its_number(tmp_path, damage):
    for chunk in range(3):
        manifest.append(tmp_path, other(chunk))
    file = tmp_path / manifest.SHARDS
    lines = file.read_bytes().splitlines()
    lines[1] = damage
    file.write_bytes(b"\n".join(lines) + b"\n")

    with pytest.raises(HepfmError, match=r"shards.jsonl, line 2: damaged"):
        manifest.read(tmp_path)


def test_fields_of_a_later_version_are_ignored(tmp_path):
    manifest.append(tmp_path, RECORD)
    file = tmp_path / manifest.SHARDS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"host": "node7"}) + "\n")

    assert manifest.read(tmp_path) == [RECORD]


def test_a_folder_without_manifest_is_no_campaign(tmp_path):
    with pytest.raises(HepfmError, match="not a campaign folder"):
        manifest.read(tmp_path)
    (tmp_path / manifest.HEADER).write_text('{"variations": ["nominal"]}')
    assert manifest.read(tmp_path) == []
    assert manifest.read_header(tmp_path) == {"variations": ["nominal"]}


def test_a_header_that_is_no_object_is_refused(tmp_path):
    for content in ("[]", "{", ""):
        (tmp_path / manifest.HEADER).write_text(content)
        with pytest.raises(HepfmError, match=r"manifest\.json"):
            manifest.read_header(tmp_path)


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(asdict(RECORD)))
    code = (
        "import json, pathlib, sys; from hepfm import manifest; folder, worker = sys.argv[1:]\n"
        "record = json.loads(pathlib.Path(folder, 'record.json').read_text())\n"
        "for i in range(50):\n"
        "    manifest.append(folder, manifest.ShardRecord(**record | {'path': f'{worker}-{i}'}))"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(4)]

    assert [worker.wait() for worker in workers] == [0] * 4
    expected = {f"{worker}-{i}" for worker in range(4) for i in range(50)}
    assert {record.path for record in manifest.read(tmp_path)} == expected


def test_a_record_that_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(HepfmError, match=r"cannot record shard shards/nominal/QCD-000000\.h5: No such file"):
        manifest.append(tmp_path / "missing", RECORD)
