import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepfm.errors import HepfmError
from hepfm.formats.hdf5 import content_digest, count_jets, read_attributes, read_shard, write_shard
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, JET_COLUMNS
from hepfm.table import JetTable


def random_table(seed: int, counts: list[int]) -> JetTable:
    """Jets of random bits, so that any float may occur: infinities, NaN, subnormals, both zeros."""
    rng = np.random.default_rng(seed)

    def values(dtype: str, length: int) -> np.ndarray:
        if dtype == "str":
            return rng.choice(["QCD", "Hbb", "", "fsr-up"], length)
        if dtype == "bool":
            return rng.random(length) < 0.5
        return np.frombuffer(rng.bytes(length * np.dtype(dtype).itemsize), dtype)

    return JetTable(
        columns={name: values(c.dtype, len(counts)) for name, c in JET_COLUMNS.items()},
        offsets=np.cumsum([0, *counts], dtype=np.int64),
        constituents={name: values(c.dtype, sum(counts)) for name, c in CONSTITUENT_COLUMNS.items()},
    )


TABLE = random_table(1, [3, 0, 40, 7, 1])


def arrays(table: JetTable) -> dict[str, np.ndarray]:
    return {"offsets": table.offsets, **table.columns, **table.constituents}


def assert_same(table: JetTable, expected: JetTable) -> None:
    assert arrays(table).keys() == arrays(expected).keys()
    for name, values in arrays(expected).items():
        found = arrays(table)[name]
        assert found.dtype.kind == values.dtype.kind, name
        if values.dtype.kind == "U":
            np.testing.assert_array_equal(found, values, err_msg=name)
        else:
            assert found.dtype == values.dtype, name
            assert found.tobytes() == values.tobytes(), name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), counts=st.lists(st.integers(0, 30), max_size=30))
def test_any_table_comes_back_bit_for_bit(tmp_path, seed, counts):
    table = random_table(seed, counts)
    write_shard(tmp_path / "jets.h5", table, {})

    assert_same(read_shard(tmp_path / "jets.h5"), table)


def test_a_table_of_several_chunks_comes_back_bit_for_bit(tmp_path):
    table = random_table(2, [100] * 1000)
    write_shard(tmp_path / "jets.h5", table, {})

    assert_same(read_shard(tmp_path / "jets.h5"), table)
    assert_same(read_shard(tmp_path / "jets.h5", start=400, stop=700), table.slice(400, 700))


def test_no_jets_make_a_shard_too(tmp_path):
    write_shard(tmp_path / "jets.h5", JetTable.empty(), {})

    assert_same(read_shard(tmp_path / "jets.h5"), JetTable.empty())
    assert count_jets(tmp_path / "jets.h5") == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (1, 3), (2, None), (-2, None), (4, 99), (3, 1)])
def test_part_of_a_shard_is_that_part_of_the_table(tmp_path, start, stop):
    write_shard(tmp_path / "jets.h5", TABLE, {})
    first, last, _ = slice(start, stop).indices(TABLE.n_jets)

    assert_same(read_shard(tmp_path / "jets.h5", start=start, stop=stop), TABLE.slice(first, max(first, last)))


def test_any_reader_of_hdf5_can_rebuild_the_jets(tmp_path):
    write_shard(tmp_path / "jets.h5", TABLE, {"generator": "pythia8mc 8.317"})

    with h5py.File(tmp_path / "jets.h5") as file:
        offsets = file["constituents/offsets"][:]
        px_of_jets = np.split(file["constituents/part_px"][:], offsets[1:-1])
        processes = file["jets/process"].asstr()[:]
        datasets = [item for group in file.values() for item in group.values()]
        assert file.attrs["generator"] == "pythia8mc 8.317"
        assert file["jets/jet_pt"].attrs["unit"] == "GeV"
        assert list(file["jets/jet_label"].attrs["names"])[:2] == ["QCD", "Hbb"]
        flavours = file["jets/jet_flavour"].attrs
        assert dict(zip(flavours["names"], flavours["codes"], strict=True))["Hbb"] == 4
        assert all(d.attrs["meaning"] and d.dtype.kind in "ifbS" and d.ndim == 1 for d in datasets)
        assert all(d.compression == "gzip" and d.shuffle for d in datasets)
    assert [len(px) for px in px_of_jets] == TABLE.counts.tolist()
    np.testing.assert_array_equal(processes, TABLE.columns["process"])


def test_neither_time_nor_a_profiler_that_holds_references_changes_a_byte(tmp_path):
    # Dask samples the frames of its workers, and so keeps their local variables alive for a while.
    done, held = threading.Event(), deque(maxlen=20)

    def profile() -> None:
        while not done.wait(1e-4):
            held.append(sys._current_frames())

    profiler = threading.Thread(target=profile)
    profiler.start()
    attributes = {f"attribute {i}": i for i in range(12)}
    deadline = time.monotonic() + 1.5
    digests = set()
    while time.monotonic() < deadline:
        digests.add(write_shard(tmp_path / "jets.h5", TABLE, attributes)[0])
    done.set()
    profiler.join()
    assert len(digests) == 1


def test_the_same_table_makes_the_same_file_in_another_process(tmp_path):
    (tmp_path / "tests.py").write_text(Path(__file__).read_text())
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests import TABLE, write_shard\n"
        "print(write_shard(sys.argv[1] + '/other name.h5', TABLE, {'seed': 3, 'list': ['a', 'b']})[0])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONMALLOC": "debug"}
    there = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment)
    here, n_bytes = write_shard(tmp_path / "jets.h5", TABLE, {"seed": 3, "list": ["a", "b"]})
    assert n_bytes == (tmp_path / "jets.h5").stat().st_size

    assert there.stdout.strip() == here, there.stderr
    assert (tmp_path / "other name.h5").read_bytes() == (tmp_path / "jets.h5").read_bytes()
    with h5py.File(tmp_path / "jets.h5") as file:
        times = [h5py.h5g.get_objinfo(d.id).mtime for group in file.values() for d in group.values()]
    assert set(times) == {0}


def test_how_wide_text_is_in_memory_does_not_change_the_file(tmp_path):
    wide = replace(TABLE, columns={**TABLE.columns, "process": TABLE.columns["process"].astype("U50")})

    assert write_shard(tmp_path / "a.h5", wide, {}) == write_shard(tmp_path / "b.h5", TABLE, {})
    assert content_digest(wide) == content_digest(TABLE)


def test_the_digest_sees_content_and_nothing_else(tmp_path):
    write_shard(tmp_path / "jets.h5", TABLE, {"seed": 1})
    changed = TABLE.columns["jet_pt"].copy()
    changed[2] = np.nextafter(changed[2], np.float32(0))
    negative_zero = replace(TABLE, columns={**TABLE.columns, "weight": np.array([-0.0] * 5)})
    zero = replace(TABLE, columns={**TABLE.columns, "weight": np.zeros(5)})

    assert content_digest(read_shard(tmp_path / "jets.h5")) == content_digest(TABLE)
    assert content_digest(replace(TABLE, columns={**TABLE.columns, "jet_pt": changed})) != content_digest(TABLE)
    assert content_digest(negative_zero) != content_digest(zero)
    assert content_digest(TABLE.slice(0, 4)) != content_digest(TABLE)


def test_attributes_come_back(tmp_path):
    given = {"variation": "fsr-up", "seed": 2**60, "scale": 0.5, "on": True, "steps": ["a", "b"], "n": [1, 2]}
    write_shard(tmp_path / "jets.h5", TABLE, given | {"settings": {"b": 1, "a": [1, "x"]}})
    found = read_attributes(tmp_path / "jets.h5")

    assert given.items() <= found.items()
    assert found["settings"] == '{"a": [1, "x"], "b": 1}'
    assert (found["format"], found["format_version"]) == ("hepfm-jets", 1)


def test_a_table_that_does_not_fit_the_format_is_not_written(tmp_path):
    broken = replace(TABLE, columns={**TABLE.columns, "process": np.array(["Z→νν"] * 5)})

    with pytest.raises(HepfmError, match="'process' holds text that is not ASCII"):
        write_shard(tmp_path / "jets.h5", broken, {})
    with pytest.raises(HepfmError, match="'part_px' is missing"):
        write_shard(tmp_path / "jets.h5", replace(TABLE, constituents={}), {})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_shard(tmp_path / "jets.h5", TABLE, {})
    before = (tmp_path / "jets.h5").read_bytes()
    (tmp_path / "tests.py").write_text(Path(__file__).read_text())
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); from tests import *\n"
        "table = random_table(5, [100] * 500)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: write_shard(sys.argv[1] + '/jets.h5', table, {})\n"
        "except HepfmError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-B", "-c", code, str(tmp_path)], capture_output=True, text=True)

    assert "jets.h5" in run.stdout and "File too large" in run.stdout, run.stderr
    assert run.stdout.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jets.h5", "tests.py"]
    assert (tmp_path / "jets.h5").read_bytes() == before


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(HepfmError, match=r"jets\.h5.*No space left on device"):
            write_shard(tmp_path / "jets.h5", random_table(5, [100] * 500), {})
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_killed_writer_leaves_whole_shards_only(tmp_path):
    (tmp_path / "tests.py").write_text(Path(__file__).read_text())
    code = (
        "import itertools, sys; sys.path.insert(0, sys.argv[1]); from tests import *\n"
        "table = random_table(5, [50] * 400)\n"
        "for i in itertools.count(): write_shard(f'{sys.argv[1]}/{i}.h5', table, {})"
    )
    expected = random_table(5, [50] * 400)
    writer = subprocess.Popen([sys.executable, "-B", "-c", code, str(tmp_path)])
    while not (tmp_path / "3.h5").exists():
        assert writer.poll() is None
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.wait()

    written = list(tmp_path.glob("[0-9]*.h5"))
    assert len(written) >= 4
    for path in written:
        assert_same(read_shard(path), expected)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "jets.h5"
    write_shard(path, random_table(3, [20] * 50), {})
    whole, digest = path.read_bytes(), content_digest(read_shard(path))
    rng = np.random.default_rng(4)
    n_noticed = 0
    for position in rng.integers(len(whole), size=150).tolist():
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            assert content_digest(read_shard(path)) == digest
        except HepfmError as error:
            n_noticed += 1
            assert "jets.h5" in str(error) and "\n" not in str(error)
    assert n_noticed > 100


def test_a_cut_off_file_is_refused(tmp_path):
    path = tmp_path / "jets.h5"
    write_shard(path, TABLE, {})
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(HepfmError, match=r"jets\.h5: not an HDF5 file, or cut off"):
            read_shard(path)


def test_damaged_values_are_refused_by_the_name_of_their_dataset(tmp_path):
    path = tmp_path / "jets.h5"
    write_shard(path, TABLE, {})
    with h5py.File(path) as file:
        chunk = file["constituents/part_py"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(HepfmError, match=r"jets\.h5: damaged: /constituents/part_py cannot be read"):
        read_shard(path)
    assert read_shard(path, ["part_px"]).n_jets == TABLE.n_jets


def edit(path: Path, name: str, values: object) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if values is not None:
            file[name] = values


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("jets/jet_pt", None, "/jets/jet_pt cannot be opened"),
        ("constituents/offsets", None, "/constituents/offsets cannot be opened"),
        ("jets/jet_pt", np.zeros(5), "'jet_pt' has the wrong type"),
        ("jets/jet_pt", np.zeros(6, "f4"), "/jets/jet_pt has 6 values"),
        ("jets/jet_pt", np.float32(1), "/jets/jet_pt is no one-dimensional dataset"),
        ("constituents/part_px", np.zeros(50, "f4"), "/constituents/part_px has 50 values"),
        ("constituents/offsets", np.array([0, 3, 2, 43, 50, 51]), "never fall"),
        ("constituents/offsets", np.empty(0, "i8"), "/constituents/offsets is empty"),
    ],
)
def test_datasets_that_do_not_fit_are_refused_by_name(tmp_path, name, values, message):
    write_shard(tmp_path / "jets.h5", TABLE, {})
    edit(tmp_path / "jets.h5", name, values)

    with pytest.raises(HepfmError, match=rf"jets\.h5.*{message}"):
        read_shard(tmp_path / "jets.h5")


def test_reading_one_column_touches_no_other(tmp_path):
    write_shard(tmp_path / "jets.h5", TABLE, {})
    for name in COLUMNS:
        if name != "part_charge":
            edit(tmp_path / "jets.h5", f"{'jets' if name in JET_COLUMNS else 'constituents'}/{name}", None)

    assert_same(read_shard(tmp_path / "jets.h5", ["part_charge"]), TABLE.only(["part_charge"]))


def test_what_is_no_shard_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("px,py,pz\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1, 2]

    with pytest.raises(HepfmError, match=r"text\.h5: not an HDF5 file"):
        read_shard(tmp_path / "text.h5")
    with pytest.raises(HepfmError, match=r"other\.h5: damaged, or no shard of hepfm: /constituents/offsets"):
        read_shard(tmp_path / "other.h5")
    with pytest.raises(HepfmError, match=r"missing\.h5: no such file"):
        read_attributes(tmp_path / "missing.h5")
    with pytest.raises(HepfmError, match=r"unknown column 'jet_pT'.*Did you mean 'jet_pt'"):
        read_shard(tmp_path / "text.h5", ["jet_pT"])
