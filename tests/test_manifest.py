import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from hepfm import manifest
from hepfm.atomic import location, names, open_file
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


def record(folder, *records):
    with manifest.recorder(folder) as add:
        for entry in records:
            add(entry)


def other(chunk: int) -> ShardRecord:
    return replace(RECORD, path=f"shards/nominal/QCD-{chunk:06}.h5", chunk=chunk)


def test_records_come_back_as_they_were_appended(tmp_path):
    record(tmp_path, RECORD, other(1))

    assert manifest.read(tmp_path) == [RECORD, other(1)]


def test_the_last_record_of_a_path_holds(tmp_path):
    record(tmp_path, RECORD, other(1), replace(RECORD, n_jets=124))

    assert manifest.read(tmp_path) == [replace(RECORD, n_jets=124), other(1)]


@pytest.mark.parametrize("n_lost", [1, 2, 20, 150])
def test_a_torn_line_counts_as_never_written_and_the_next_record_is_safe(tmp_path, n_lost):
    record(tmp_path, RECORD, other(1))
    file = tmp_path / manifest.SHARDS
    file.write_bytes(file.read_bytes()[:-n_lost])
    # Without its newline alone the record is complete.
    survivors = [RECORD, other(1)] if n_lost == 1 else [RECORD]

    assert manifest.read(tmp_path) == survivors
    record(tmp_path, other(2))
    assert manifest.read(tmp_path) == [*survivors, other(2)]


@pytest.mark.parametrize("damage", [b'{"path": 1', b"[1, 2]", b'{"path": "x"}', b"\xff\xfe"])
def test_a_damaged_line_is_refused_by_its_number(tmp_path, damage):
    record(tmp_path, *map(other, range(3)))
    file = tmp_path / manifest.SHARDS
    lines = file.read_bytes().splitlines()
    lines[1] = damage
    file.write_bytes(b"\n".join(lines) + b"\n")

    with pytest.raises(HepfmError, match=r"shards.jsonl, line 2: damaged"):
        manifest.read(tmp_path)


def test_fields_of_a_later_version_are_ignored(tmp_path):
    record(tmp_path, RECORD)
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
        "with manifest.recorder(folder) as add:\n"
        "    for i in range(50):\n"
        "        add(manifest.ShardRecord(**record | {'path': f'{worker}-{i}'}))"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(4)]

    assert [worker.wait() for worker in workers] == [0] * 4
    expected = {f"{worker}-{i}" for worker in range(4) for i in range(50)}
    assert {entry.path for entry in manifest.read(tmp_path)} == expected


def test_a_record_that_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(HepfmError, match=r"shards\.jsonl: cannot record shards: No such file"):
        record(tmp_path / "missing", RECORD)


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    return tmp_path if request.param == "local" else location(request.getfixturevalue("bucket") + "/campaign")


def test_forgotten_records_are_gone_and_the_others_stay_to_the_byte(folder):
    record(folder, RECORD, other(1), other(2))
    record(folder, replace(other(1), n_jets=7), other(3))
    kept = {name for name in names(folder) if name.startswith("shards")}

    manifest.forget(folder, [other(1).path, "shards/nominal/never-made.h5"])
    assert manifest.read(folder) == [RECORD, other(2), other(3)]
    assert set(names(folder)) == kept
    record(folder, other(1))
    assert manifest.read(folder) == [RECORD, other(2), other(3), other(1)]


def test_forgetting_nothing_writes_nothing(folder):
    record(folder, RECORD)
    (name,) = names(folder)
    before = (folder / name).stat().st_mtime
    manifest.forget(folder, [])
    assert (folder / name).stat().st_mtime == before


def test_records_without_later_fields_still_read(tmp_path):
    old = {name: value for name, value in asdict(RECORD).items() if name != "crashed"}
    (tmp_path / manifest.SHARDS).write_text(json.dumps(old) + "\n")
    assert manifest.read(tmp_path) == [RECORD]
    record(tmp_path, replace(other(1), crashed=[5, 9]))
    assert manifest.read(tmp_path)[1].crashed == [5, 9]


def test_records_in_a_store_come_in_segments_of_bounded_size(bucket):
    folder = location(f"{bucket}/campaign")
    record(folder, *map(other, range(250)))
    record(folder, *map(other, range(250, 253)))

    assert names(folder) == [f"shards-00000{i}.jsonl" for i in (1, 2, 3)]
    with open_file(folder / "shards-000001.jsonl") as file:
        assert len(file.readlines()) == 200
    assert manifest.read(folder) == [other(i) for i in range(253)]
    assert manifest.read(str(folder)) == manifest.read(folder)


def test_every_record_is_in_the_store_as_soon_as_it_is_written(bucket):
    folder = location(f"{bucket}/campaign")
    with manifest.recorder(folder) as add:
        for chunk in range(3):
            add(other(chunk))
            assert manifest.read(folder) == [other(i) for i in range(chunk + 1)]


def test_two_runs_never_write_each_others_segments(bucket):
    # One of them was thought dead, and woke up.
    folder = location(f"{bucket}/campaign")
    with manifest.recorder(folder) as first, manifest.recorder(folder) as second:
        for chunk in range(0, 6, 2):
            first(other(chunk))
            second(other(chunk + 1))
    assert {r.chunk for r in manifest.read(folder)} == set(range(6))


def test_bucket_without_records_is_no_campaign(bucket):
    with pytest.raises(HepfmError, match="not a campaign folder"):
        manifest.read(f"{bucket}/nothing")


def test_reading_takes_little_memory_for_each_record(tmp_path):
    # 20,000 records of a thousand events under eight variations, the length that they really have.
    n_records, n_fewer = 20_000, 2_000
    stages = {name: 12.345678901234567 for name in ("freeze", "start", "shower", "detector", "jets", "labels", "write")}
    lines = [json.dumps(asdict(replace(other(i), missing=[i, i + 1, i + 2], seconds=stages))) for i in range(n_records)]
    code = (
        "import resource, sys; from hepfm import manifest; manifest.read(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    peaks = []
    for n in (n_fewer, n_records):
        (tmp_path / manifest.SHARDS).write_text("\n".join(lines[:n]) + "\n")
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    # 1,500 bytes measured; twice as many would still be 300 MB for 100,000 shards.
    assert (peaks[1] - peaks[0]) / (n_records - n_fewer) < 3_000
