"""Files are whole or absent, on a file system and in an object store."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hepfm.atomic import (
    create,
    exists,
    is_folder,
    is_local,
    location,
    names,
    open_file,
    open_files,
    remove,
    write_whole,
)
from hepfm.errors import InputError, StorageError


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "local":
        return tmp_path / "folder"
    return location(request.getfixturevalue("bucket") + "/folder")


def test_names_and_urls_become_paths(tmp_path):
    assert location("resim-jets") == Path("resim-jets")
    assert location("/data/resim jets") == Path("/data/resim jets")
    assert location("file:///data/resim%20jets") == Path("/data/resim jets")
    assert location(tmp_path) == tmp_path
    remote = location("s3://bucket/resim-jets")
    assert not is_local(remote)
    assert location(remote) is remote
    assert str(remote / "shards" / "x.h5") == "s3://bucket/resim-jets/shards/x.h5"


def test_unknown_kind_of_url_is_refused():
    with pytest.raises(InputError, match=r"fsspec knows no s4://"):
        location("s4://bucket/resim-jets")


@pytest.mark.parametrize(
    ("url", "absent", "command"),
    [
        ("s3://bucket/jets", "upath", 'pip install "hepfm[s3]"'),
        ("s3://bucket/jets", "s3fs", 'pip install "hepfm[s3]"'),
        ("gs://bucket/jets", "gcsfs", "pip install universal-pathlib gcsfs"),
        ("root://server//jets", "fsspec_xrootd", "pip install universal-pathlib fsspec-xrootd"),
    ],
)
def test_package_that_is_not_installed_is_named(url, absent, command):
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from hepfm.atomic import location\n"
        "from hepfm.errors import InputError\n"
        f"try: location({url!r})\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == f"{url}: {url[: url.index(':')]}:// needs a package that is not installed: {command}\n"


def test_written_file_is_read_back_and_listed(folder):
    assert names(folder) == []
    assert not exists(folder)
    write_whole(folder / "a.txt", b"one")
    write_whole(folder / "b.txt", b"two")
    write_whole(folder / "deep" / "c.txt", b"three")
    write_whole(folder / "a.txt", b"replaced")

    assert names(folder) == ["a.txt", "b.txt", "deep"]
    assert names(folder, "*.txt") == ["a.txt", "b.txt"]
    assert {name: file.read() for name, file in open_files(folder, "*.txt")} == {"a.txt": b"replaced", "b.txt": b"two"}
    assert [name for name, _ in open_files(folder, "deep*/none")] == []
    with open_file(folder / "deep" / "c.txt") as file:
        assert file.read() == b"three"
    assert exists(folder / "a.txt")
    assert is_folder(folder)
    assert not is_folder(folder / "a.txt")


def test_file_that_is_not_there_is_a_file_not_found(folder):
    with pytest.raises(FileNotFoundError) as raised:
        open_file(folder / "nothing")
    assert str(raised.value.filename) == str(folder / "nothing")
    assert raised.value.strerror.startswith("No such file")


def test_what_another_process_wrote_is_seen_at_once(folder):
    write_whole(folder / "a", b"1")
    assert names(folder) == ["a"]
    code = "import sys; from hepfm.atomic import *; write_whole(location(sys.argv[1]) / 'b', b'22')"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    assert names(folder) == ["a", "b"]
    assert (folder / "b").stat().st_size == 2


def test_removing_a_file_is_done_once_it_is_gone(folder):
    write_whole(folder / "a", b"1")
    for _ in range(2):
        remove(folder / "a")
        assert not exists(folder / "a")


def test_exclusive_file_is_made_once(folder):
    path = folder / "lock"
    create(path, b"mine")
    with pytest.raises(FileExistsError):
        create(path, b"theirs")
    with open_file(path) as file:
        assert file.read() == b"mine"
    assert names(folder) == ["lock"]


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for write in (create, write_whole):
        with pytest.raises(StorageError, match="cannot write"):
            write(tmp_path / "file" / "lock", b"mine")


def test_exclusive_file_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    create(tmp_path / "new" / "lock", b"mine")
    with pytest.raises(FileExistsError):
        create(tmp_path / "new" / "lock", b"theirs")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "new").iterdir()] == [("lock", b"mine")]


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    code = "import sys; from hepfm.atomic import *; write_whole(location(sys.argv[1]), bytes(10_000))"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, preexec_fn=limit)
    assert f"StorageError: cannot write {path}: File too large. Free space" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_bucket_that_does_not_exist_is_one_clear_line(object_store):
    path = location("s3://there-is-no-such-bucket/file")
    with pytest.raises(StorageError, match="no such bucket") as raised:
        write_whole(path, b"")
    assert str(path) in str(raised.value)
    assert not exists(path)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect to the endpoint"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
    ],
)
def test_store_out_of_reach_is_one_clear_line(object_store, monkeypatch, variables, words):
    for name, value in {**variables, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    code = (
        "from hepfm.atomic import *; from hepfm.errors import StorageError\n"
        "try: write_whole(location('s3://bucket/file'), b'')\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("cannot reach s3://bucket/file: ")
    assert words in done.stdout
    assert done.stdout.count("\n") == 1


def test_local_campaigns_load_no_library_for_stores():
    code = (
        "import sys, hepfm.atomic, hepfm.manifest as m; m.location('x'); print({'upath', 'fsspec'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
