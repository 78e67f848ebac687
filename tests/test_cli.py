"""The command line as users meet it: real processes, exit statuses, what goes to which stream."""

import contextlib
import gzip
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner
from upath import UPath

import hepfm
from hepfm import cli, manifest
from hepfm.resim.detector import DETECTORS
from hepfm.resim.processes import PRESETS, PROCESSES
from hepfm.resim.variations import VARIATIONS
from hepfm.zoo import bundled

HEPFM_DATA = Path(sysconfig.get_path("scripts")) / "hepfm-data"


def hepfm_data(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command and wait for it."""
    words = [str(word) for word in arguments]
    return subprocess.run([HEPFM_DATA, *words], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[object]:
    """The installed command's own entry point, in this process: for the many ways to use it wrongly."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hepfm-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capfd.readouterr()
        return exit_.value.code, out, err

    return run


@pytest.fixture(scope="module")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, quick_variations: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A campaign of ten events under two variations, and what the command said."""
    folder = tmp_path_factory.mktemp("campaigns") / "small"
    return folder, hepfm_data(
        "resim", folder, "--n-events", "1e1", "--variations", quick_variations, "--seed", 7, "--workers", 2
    )


@pytest.fixture(scope="module")
def campaign(first_run: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The folder of that campaign."""
    return first_run[0]


@pytest.fixture(scope="module")
def lhe(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Les Houches file of five H→bb events, not packed."""
    path = tmp_path_factory.mktemp("lhe") / "higgs.lhe"
    path.write_bytes(gzip.decompress((campaign / "hard" / "Hbb-000000.lhe.gz").read_bytes()))
    return path


def digests(folder: Path) -> dict[str, str]:
    return {record.path: record.sha256 for record in manifest.read(folder)}


def assert_one_line(err: str) -> None:
    assert err.startswith("hepfm-data: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err


# Help, version, lists


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(_commands(cli.cli)), ids=" ".join)
def test_every_command_explains_itself_and_its_options(path):
    result = CliRunner().invoke(cli.cli, [*path, "--help"], prog_name="hepfm-data")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: {' '.join(['hepfm-data', *path])}")
    command: click.Command = cli.cli
    for name in path:
        command = command.commands[name]
    assert command.help
    assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_help_of_the_installed_command_shows_examples_that_it_accepts():
    result = hepfm_data("resim", "--help")
    assert result.returncode == 0
    assert not result.stderr
    examples = [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("    hepfm-data resim")]
    assert len(examples) >= 3
    for _, _, *words in examples:
        cli.cli.commands["resim"].make_context("resim", words)


def test_version_is_that_of_the_package():
    result = hepfm_data("--version")
    assert (result.returncode, result.stdout) == (0, f"hepfm-data {hepfm.__version__}\n")


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("processes", [*PRESETS, *PROCESSES]),
        ("variations", list(VARIATIONS)),
        ("detectors", list(DETECTORS)),
        ("models", list(bundled())),
    ],
)
def test_list_names_and_describes_all_there_is(main, what, names):
    status, out, err = main("list", what)
    assert (status, err) == (0, "")
    first_words = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert first_words == names
    status, out, err = main("list", what, "--json")
    assert (status, err) == (0, "")
    entries = json.loads(out)
    assert [entry["name"] for entry in entries] == names
    assert all(entry["description"] for entry in entries)


def test_list_of_variations_gives_their_settings(main):
    _, out, _ = main("list", "variations", "--json")
    settings = {entry["name"]: entry["settings"] for entry in json.loads(out)}
    assert settings["fsr-up"] == ["TimeShower:renormMultFac = 0.5"]
    assert settings["nominal"] == []


# A campaign from beginning to end


def test_resim_makes_a_campaign_and_sums_it_up(first_run):
    folder, result = first_run
    assert result.returncode == 0, result.stderr
    # No terminal, no progress bar.
    assert result.stderr == ""
    assert "quick-fsr-up" in result.stdout
    assert "cross-section" in result.stdout
    data = hepfm.open(folder)
    assert data.variations == ("quick", "quick-fsr-up")
    assert set(data.processes) <= {"Hbb", "QCD"}
    assert len(data) > 0


def test_the_same_command_again_simulates_nothing_anew(campaign, quick_variations):
    before = {path: path.stat().st_mtime_ns for path in campaign.rglob("*") if path.is_file()}
    result = hepfm_data("resim", campaign, "--n-events", 10, "--variations", quick_variations, "--seed", 7, "--json")
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in campaign.rglob("*") if path.is_file()} == before
    assert json.loads(result.stdout)["n_shards"] == len(digests(campaign))


def test_info_counts_what_is_there(main, campaign):
    status, out, err = main("info", campaign, "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert sum(v["n_jets"] for v in answer["variations"].values()) == len(hepfm.open(campaign))
    assert [v["n_events"] for v in answer["variations"].values()] == [10, 10]
    assert {name: p["n_events"] for name, p in answer["processes"].items()} == {"Hbb": 5, "QCD": 5}
    assert answer["campaign"]["seed"] == 7
    status, out, err = main("info", campaign)
    assert (status, err) == (0, "")
    for word in ("quick-fsr-up", "Hbb", "QCD", "cross-section [pb]", "core time"):
        assert word in out


def test_check_finds_nothing_wrong_with_a_campaign(campaign):
    result = hepfm_data("check", campaign)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("0 problems in 4 shards")


def test_check_names_a_damaged_shard_and_fails(main, campaign, tmp_path):
    copy = tmp_path / "damaged"
    shutil.copytree(campaign, copy)
    path = next(iter(digests(copy)))
    content = bytearray((copy / path).read_bytes())
    content[len(content) // 2] ^= 0x01
    (copy / path).write_bytes(content)
    status, out, err = main("check", copy)
    assert (status, err) == (1, "")
    assert out.startswith(f"{path}: damaged")
    status, out, _ = main("check", copy, "--json")
    assert status == 1
    assert len(json.loads(out)["problems"]) == 1


def test_config_repeats_a_campaign_bit_for_bit(campaign, tmp_path):
    result = hepfm_data("resim", tmp_path / "again", "--config", campaign / "campaign.toml", "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert digests(tmp_path / "again") == digests(campaign)


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_config_may_be_a_url(main, campaign, tmp_path, scheme):
    folder, url = shutil.copytree(campaign, tmp_path / "c"), f"{scheme}://{tmp_path}/c/campaign.toml"
    if scheme == "memory":
        UPath(url).write_bytes((folder / "campaign.toml").read_bytes())
    status, _, err = main("resim", folder, "--config", url, "--workers", 1)
    assert (status, "nothing is left to do" in err) == (0, True), err
    status, _, err = main("resim", "out", "--config", f"{scheme}:///nowhere/campaign.toml")
    assert status == 2
    assert_one_line(err)
    assert "cannot read" in err


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, quick_variations):
    words = ("resim", "--n-events", "1e6", "--variations", quick_variations, "--dry-run", "--workers", 3)
    result = hepfm_data(*words, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("resim-jets: 1,000,000 events of Hbb, QCD\n")
    assert "2,000 shards on 3 workers" in result.stdout
    result = hepfm_data(*words, "--json", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    plan = json.loads(result.stdout)
    assert plan["n_events"] == 10**6
    assert [v["variation"] for v in plan["variations"]] == ["quick", "quick-fsr-up"]
    assert plan["seconds"] > 0
    assert plan["bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_out_may_be_an_option(main, campaign, quick_variations, tmp_path):
    """Both ways to name the folder lead to the same refusal of another campaign."""
    for where in ([campaign], ["--out", campaign]):
        status, out, err = main("resim", *where, "--n-events", 10, "--variations", quick_variations, "--seed", 8)
        assert (status, out) == (1, "")
        assert_one_line(err)
        assert "another campaign: seed differ" in err


# Wrong usage: one line on standard error, nothing on standard output, nothing on disk


_COUNTS = ["-3", "0", "nan", "inf", "1.5", "abc", "", "1e-3", "1e400"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *((("--n-events", value), "--n-events") for value in _COUNTS),
        *((("--chunk-events", value), "--chunk-events") for value in _COUNTS),
        *((("--workers", value), "--workers") for value in (*_COUNTS, "5000")),
        *((("--seed", value), "--seed") for value in ("-1", "nan", "inf", "1.5", "abc", "9223372036854775808")),
        *((("--jet-pt-min", value), "--jet-pt-min") for value in ("-1", "0", "nan", "inf", "abc")),
        *((("--jet-pt-max", value), "--jet-pt-max") for value in ("-1", "0", "nan", "inf", "abc")),
        (("--jet-pt-min", "500", "--jet-pt-max", "450"), "pt"),
        (("--n-events", "1e16"), "from 1 to 1e+15"),
        (("--variations", "0"), "from 1 to 8"),
        (("--variations", "9"), "from 1 to 8"),
        (("--variations", "-1"), "from 1 to 8"),
        (("--variations", "1.5"), "from 1 to 8"),
        (("--variations", "nan"), "unknown variation 'nan'"),
        (("--variations", ""), "unknown variation"),
        (("--variations", "fsrup"), "Did you mean 'fsr-up'?"),
        (("--variations", "nominal,nominal"), "'nominal' is asked for twice"),
        (("--variations", "2,nominal"), "'nominal' is asked for twice"),
        (("--variations", "nowhere.toml"), "cannot read nowhere.toml"),
        (("--processes", "Hbbb"), "Did you mean 'Hbb'?"),
        (("--processes", ""), "unknown process"),
        (("--processes", "QCD,QCD"), "named twice"),
        (("--detector", "cmss"), "Did you mean 'cms'?"),
        (("--freeze", "hardon"), "Did you mean 'hadron'?"),
        (("--freeze", "shower", "--variations", "nominal,fsr-up"), "has no effect on a kept shower"),
        (("--external", "true {lhe} {hepmc}"), "--external and --variation-name go together"),
        (("--external", "true {lhe}", "--variation-name", "x"), "does not say {hepmc}"),
        (("--repair", "x", "--seed", "2"), "--repair takes no setting of a campaign"),
        (("--extend", "x"), "--extend takes --variations, --external or --n-events"),
        (("--config", "nowhere.toml"), "cannot read nowhere.toml"),
        (("--config", "nowhere.toml", "--seed", "2"), "--config already says --seed"),
        (("--config", "nowhere.toml", "--lhe", "a.lhe"), "--config already says --lhe"),
        (("--extend", "nowhere", "--seed", "2"), "--extend takes --variations"),
        (("--extend", "nowhere"), "--extend takes --variations"),
        (("one", "--extend", "nowhere", "--variations", "a14"), "--extend takes --variations"),
        (("--executor", "dsk", "--n-events", "2"), "Did you mean 'dask'?"),
        (("--scheduler", "tcp://127.0.0.1:1", "--n-events", "2"), "--executor dask"),
        (("--dry-run", "--executor", "nonsense"), "unknown executor 'nonsense'"),
        (("--dry-run", "--scheduler", "foo"), "--executor dask"),
        (("--executor", "dask", "--scheduler", "foo", "--workers", "7"), "--workers is for this machine"),
        (("--extend", "nowhere", "--variations", "a14", "--executor", "dsk"), "Did you mean 'dask'?"),
        (("--lhe", "nowhere.lhe"), "cannot read nowhere.lhe"),
        (("--lhe", "nowhere.lhe", "--processes", "QCD"), "--lhe and --processes exclude each other"),
        (("one", "--out", "two"), "given twice"),
        (("one", "two"), "two"),
        (("--n-event", "3"), "'--n-events'"),
        (("--n-events",), "--n-events"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_of_resim_is_one_line(main, tmp_path, arguments, said):
    status, out, err = main("resim", *arguments)
    assert (status, out) == (2, "")
    assert_one_line(err)
    assert said in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rsim",), "Did you mean 'resim'?"),
        (("list", "variation"), "variation"),
        (("info", "a", "b"), "unexpected extra argument"),
        (("check", "--jsn"), "'--json'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_commands_are_one_line(main, arguments, said):
    status, out, err = main(*arguments)
    assert (status, out) == (2, "")
    assert_one_line(err)
    assert said in err


@pytest.mark.parametrize("command", ["info", "check"])
def test_a_folder_that_is_no_campaign_is_one_line(main, tmp_path, command):
    (tmp_path / "file").write_text("no campaign")
    (tmp_path / "empty").mkdir()
    for folder in ("nowhere", "empty", "file"):
        status, out, err = main(command, folder)
        assert status in (1, 2)
        assert out == ""
        assert_one_line(err)
        assert folder in err


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_without_a_command_the_help_is_shown(main, arguments):
    status, out, err = main(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Usage: hepfm-data")
    assert "Commands:" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[[variation]]\nname = "mine"\nsettings = ["TimeShower:renormMultFak = 2"]', "'TimeShower:renormMultFac'"),
        ('[[variation]]\nname = "mine"\nsettings = ["TimeShower:renormMultFac = 1000"]', "out of range"),
        ('[[variation]]\nname = "mine"\nsettings = ["TimeShower:renormMultFac = big"]', "expects a number"),
        ('[[variation]]\nname = "mine"\nsettings = ["Beams:eCM = 8000"]', "belongs to hepfm"),
        ('[[variation]]\nname = "Mine!"', "lower-case"),
        ("[[variation]]\nsettings = []", "has no name"),
        ('[[variation]]\nname = "mine"\nsetting = []', "settings"),
        ("[[variation", "is not TOML"),
        ("", "at least one [[variation]]"),
    ],
)
def test_a_faulty_variation_of_ones_own_is_one_line(main, tmp_path, content, said):
    (tmp_path / "mine.toml").write_text(content)
    status, out, err = main("resim", "out", "--variations", "mine.toml")
    assert (status, out) == (2, "")
    assert_one_line(err)
    assert said in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_used_is_left_alone(main, tmp_path, quick_variations):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    for out_folder in ("file", "full", "file/below"):
        status, out, err = main("resim", out_folder, "--n-events", 10, "--variations", quick_variations)
        assert (status, out) == (1, "")
        assert_one_line(err)
        assert out_folder in err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "thesis.tex"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (lambda content: 0, "holds no events"),
        (lambda content: content.index(b"<event"), "holds no events"),
        (lambda content: content.rindex(b"<event") + 300, "event 5 is truncated or malformed"),
    ],
    ids=["empty", "without events", "truncated"],
)
def test_a_damaged_les_houches_file_is_one_line(lhe, quick_variations, tmp_path, until, said):
    content = lhe.read_bytes()
    damaged = tmp_path / "damaged.lhe"
    damaged.write_bytes(content[: until(content)])
    result = hepfm_data("resim", tmp_path / "out", "--lhe", damaged, "--variations", quick_variations, "--workers", 1)
    assert (result.returncode, result.stdout) == (2, "")
    assert_one_line(result.stderr)
    assert f"{damaged}" in result.stderr
    assert said in result.stderr


def test_a_damaged_config_is_one_line(main, campaign, tmp_path):
    text = (campaign / "campaign.toml").read_text()
    for old, new, said in (
        ("n_events = 10", "n_events = -10", "n_events"),
        ("seed = 7", "sed = 7", "Did you mean 'seed'?"),
        ('detector = "cms"', 'detector = "atlas"', "unknown detector"),
        ("[selection]", "[selections]", "selection"),
        ("seed = 7", "seed =", "is not TOML"),
    ):
        assert old in text
        (tmp_path / "config.toml").write_text(text.replace(old, new))
        status, out, err = main("resim", "out", "--config", "config.toml")
        assert (status, out) == (2, "")
        assert_one_line(err)
        assert said in err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_is_one_line(quick_variations, tmp_path):
    """The largest file may have 4 kB, which the campaign's settings fit into and a shard does not."""
    command = f"ulimit -f 4; exec {HEPFM_DATA} resim out --n-events 10 --workers 1 --variations {quick_variations}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert_one_line(result.stderr)
    assert f"cannot write {tmp_path}/out/shards/" in result.stderr
    assert "Free space" in result.stderr
    assert not list((tmp_path / "out").rglob("*.h5"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback_wherever_it_stands(main, place):
    words = ["resim", "--variations", "fsrup"]
    words.insert(place, "--debug")
    status, out, err = main(*words)
    assert (status, out) == (2, "")
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("hepfm-data: unknown variation 'fsrup'")


def test_an_error_of_our_own_making_is_one_line_too(main, monkeypatch, campaign):
    def broken(*_: object) -> None:
        msg = "not thought of"
        raise RuntimeError(msg)

    monkeypatch.setattr(manifest, "read", broken)
    status, out, err = main("info", campaign)
    assert (status, out) == (1, "")
    assert_one_line(err)
    assert "RuntimeError: not thought of" in err
    assert "--debug" in err


def test_extending_adds_views_and_a_folder_without_campaign_is_refused(main, campaign, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "campaign")
    status, out, err = main("resim", "--extend", folder, "--variations", "mpi-off", "--workers", 1, "--json")
    assert (status, err) == (0, "")
    before, after = manifest.read(campaign), manifest.read(folder)
    assert list(json.loads(out)["variations"])[-1] == "mpi-off"
    assert after[: len(before)] == before
    assert {record.variation for record in after[len(before) :]} == {"mpi-off"}
    status, out, err = main("resim", "--extend", tmp_path, "--variations", "mpi-off")
    assert (status, out) == (1, "")
    assert_one_line(err)
    assert "not a campaign folder" in err


# Interrupting


def in_small_tasks(variations: Path) -> list[str]:
    sizes = ["--n-events", "1200", "--chunk-events", "20", "--workers", "2"]
    return ["resim", "out", "--variations", str(variations), *sizes]


@contextlib.contextmanager
def running(words: list[str], cwd: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A command and its workers once the first shard is there, in a process group of its own."""
    process = subprocess.Popen(
        [HEPFM_DATA, *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test suite in the background of a script ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    shards = cwd / "out" / manifest.SHARDS
    try:
        deadline = time.monotonic() + 60
        while not (shards.exists() and shards.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        yield process, workers
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_ctrl_c_stops_within_seconds_and_the_same_command_goes_on(quick_variations, tmp_path):
    words = in_small_tasks(quick_variations)
    with running(words, tmp_path) as (process, workers):
        # A terminal sends Ctrl-C to the command and to its workers: to the whole process group.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert_one_line(err.removeprefix("\n"))  # which ends the line in which a terminal shows ^C
    assert "run the same command again to go on" in err
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    finished = digests(tmp_path / "out")
    assert 0 < len(finished) < 120
    result = hepfm_data(*words, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert finished.items() <= digests(tmp_path / "out").items()
    result = hepfm_data("check", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith("0 problems in 120 shards")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_command_that_is_killed(quick_variations, tmp_path, blow):
    with running(in_small_tasks(quick_variations), tmp_path) as (process, workers):
        process.send_signal(blow)
        process.wait(timeout=30)
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_a_batch_system_that_ends_a_job_leaves_nothing_half_done(quick_variations, tmp_path):
    with running(in_small_tasks(quick_variations), tmp_path) as (process, workers):
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert (process.returncode, out, alive) == (1, "", [])
    assert_one_line(err.removeprefix("\n"))
    assert "interrupted" in err


def test_ctrl_c_while_libraries_are_imported_counts_as_such(main, monkeypatch):
    def interrupted(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            msg = "initialization failed"
            raise ImportError(msg) from error

    monkeypatch.setattr(manifest, "read", interrupted)
    status, _, err = main("info")
    assert status == 1
    assert_one_line(err)
    assert "interrupted" in err


def test_a_terminal_gets_a_progress_bar_and_a_pipe_the_answer_alone(quick_variations, tmp_path):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [HEPFM_DATA, "resim", tmp_path / "out", "--n-events", "10", "--variations", quick_variations, "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal says that nobody writes to it any more
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"views/s" in shown
    assert b"10 of 10 events" in shown
    assert json.loads(out)["n_shards"] == 4


# Repairing, watching, logging, and other generators.


def test_repair_makes_a_damaged_shard_again_and_says_which(campaign, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "copy")
    path = next(folder.glob("shards/*/*.h5"))
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    result = hepfm_data("resim", "--repair", folder, "--workers", 1)
    assert result.returncode == 0
    assert f"damaged, made again: {path.relative_to(folder)}" in result.stderr
    assert path.read_bytes() == content
    assert hepfm_data("check", folder).returncode == 0
    again = hepfm_data("resim", "--repair", folder, "--workers", 1)
    assert (again.returncode, "damaged" in again.stderr) == (0, False)
    assert "nothing is left to do" in again.stderr


def test_log_is_one_json_object_a_line(campaign, tmp_path):
    config = campaign / "campaign.toml"
    result = hepfm_data("resim", tmp_path / "logged", "--config", config, "--workers", 1, "--log-json")
    assert result.returncode == 0
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["campaign starts", *["shard finished"] * 4, "campaign ends"]
    assert all({"time", "level"} <= line.keys() for line in lines)
    finished = {line["path"]: line for line in lines if line["event"] == "shard finished"}
    for record in manifest.read(campaign):
        assert finished[record.path]["n_jets"] == record.n_jets
        assert finished[record.path]["seconds"] > 0
    assert lines[-1]["n_shards"] == lines[-1]["n_shards_done"] == 4


def test_log_has_the_notes_on_a_file_as_json_too(main, shared):
    file = shared / "data" / "powheg_hvq.lhe"
    options = ("--lhe", file, "--n-events", 2, "--variations", "nominal", "--workers", 1)
    status, _, err = main("resim", "out", *options, "--log-json")
    assert status == 0, err
    lines = [json.loads(line) for line in err.splitlines()]
    assert "SCALUP" in lines[0]["event"]
    status, _, err = main("resim", "out", *options)
    assert (status, err.splitlines()[0]) == (0, f"note: {lines[0]['event']}")


def test_watching_ends_with_the_campaign(quick_variations, tmp_path):
    folder = tmp_path / "watched"
    settings = ("--n-events", 60, "--variations", quick_variations, "--chunk-events", 10, "--workers", 1)
    command = [*map(str, (sys.executable, "-m", "hepfm.cli", "resim", folder, *settings))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running_campaign:
        while not (folder / "campaign.toml").exists():
            time.sleep(0.05)
        watched = hepfm_data("info", folder, "--watch")
        assert running_campaign.wait() == 0
    assert watched.returncode == 0
    lines = [line for line in watched.stderr.splitlines() if line.endswith("jets") and "shards, " in line]
    assert lines[-1].startswith("12 of 12 shards, 120 views")
    assert len(lines) > 1, "it showed how the campaign proceeded"
    assert "cross-section" in watched.stdout


def test_ingest_takes_finished_events_in(main, shared, tmp_path):
    file = shared / "data" / "example_hepmc3.hepmc.zst"
    status, out, err = main("ingest", file, "--jet-pt-min", 5, "--workers", 1, "--json")
    assert status == 0, err
    summary = json.loads(out)
    assert (summary["folder"], summary["variations"]["nominal"]["n_events"]) == ("ingested-jets", 25)
    assert (tmp_path / "ingested-jets" / "shards.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "FILES"),
        (("nowhere.hepmc",), "cannot read"),
        (("a/b.hepmc", "c/d.hepmc", "--campaign", "x"), "2 folders"),
        (("a/b.hepmc", "--campaign", "x", "--seed", "3"), "--campaign takes --variation-name"),
        (("a/b.hepmc", "--campaign", "x", "--variation-name", "Upper"), "lower-case letters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_of_ingest_is_one_line(main, arguments, said):
    status, out, err = main("ingest", *arguments)
    assert (status, out) == (2, "")
    assert_one_line(err)
    assert said in err


def test_files_that_are_not_a_campaigns_leave_it_as_it_was(main, campaign, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "c")
    (tmp_path / "farm").mkdir()
    for name in ("Hbb-000000.hepmc", "QCD-000000.hepmc", "other.hepmc"):
        (tmp_path / "farm" / name).write_text("nonsense")
    for names, said in (
        (["nowhere.hepmc"], "cannot read farm/nowhere.hepmc"),
        (["Hbb-000000.hepmc", "other.hepmc"], "other.hepmc is named after no block"),
        (["Hbb-000000.hepmc", "QCD-000000.hepmc"], "is not a HepMC file"),
    ):
        files = [f"farm/{name}" for name in names]
        status, out, err = main("ingest", *files, "--campaign", folder, "--variation-name", "x", "--workers", 1)
        assert (status, out) == (2, "")
        assert_one_line(err)
        assert said in err
        for name in ("campaign.toml", "manifest.json"):
            assert (folder / name).read_bytes() == (campaign / name).read_bytes()


def test_external_program_that_fails_is_one_line_and_can_be_corrected(campaign, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "copy")
    program = Path(__file__).resolve().parents[1] / "examples" / "external" / "pythia_hepmc.py"
    options = ("resim", "--extend", folder, "--variation-name", "mine", "--workers", 1, "--external")
    broken = hepfm_data(*options, "false {lhe} {hepmc}")
    assert broken.returncode == 1
    assert "external program 'false' failed with exit status 1" in broken.stderr
    assert broken.stderr.count("\n") == 1
    assert (folder / "campaign.toml").read_bytes() == (campaign / "campaign.toml").read_bytes()
    assert hepfm_data("check", folder).returncode == 0
    command = f"{sys.executable} {program} {{lhe}} {{hepmc}} {{seed}} {{n_events}}"
    corrected = hepfm_data(*options, command, "--json")
    assert corrected.returncode == 0, corrected.stderr
    assert json.loads(corrected.stdout)["variations"]["mine"]["n_events"] == 10
    changed = hepfm_data(*options, f"{command} --drop 3")
    assert changed.returncode == 1
    assert "has a variation 'mine' with other settings" in changed.stderr


def test_failed_extension_leaves_what_was_planned_from_the_start(main, quick_variations):
    broken = ("--external", "false {lhe} {hepmc}", "--variation-name", "mine", "--workers", 1)
    settings = ("--n-events", 2, "--processes", "Hbb", "--variations", quick_variations)
    assert main("resim", "out", *settings, *broken)[0] == 1
    before = Path("out/campaign.toml").read_bytes()
    assert main("resim", "--extend", "out", *broken)[0] == 1
    assert Path("out/campaign.toml").read_bytes() == before


def test_freeze_makes_the_variations_share_the_first_ones_shower(main):
    options = ("--variations", "nominal,reseed,redetect", "--freeze", "shower", "--n-events", 4, "--processes", "Hbb")
    status, _, err = main("resim", "shared", *options, "--workers", 1, "--json")
    assert status == 0, err
    header = json.loads(Path("shared/manifest.json").read_text(encoding="utf-8"))
    assert header["shares"] == {
        "reseed": {"keeps": "shower", "of": "nominal"},
        "redetect": {"keeps": "hadrons", "of": "nominal"},
    }


def test_export_writes_the_hubs_layout_and_says_what(campaign, tmp_path):
    result = hepfm_data("export", campaign, "--out", tmp_path / "out", "--json")
    answer = json.loads(result.stdout)
    again = hepfm_data("export", campaign, "--out", tmp_path / "out")

    assert answer["n_jets"] == len(hepfm.open(tmp_path / "out")) == len(hepfm.open(campaign)) > 0
    assert answer["n_files"] == len(list(tmp_path.rglob("*.parquet")))
    assert again.returncode == 0
    assert f"{answer['n_jets']} jets in {answer['n_files']} files" in again.stdout
    assert hepfm_data("export", tmp_path).returncode == 1


@pytest.mark.parametrize("to", ["root", "omnilearned", "padded"])
def test_export_to_other_formats_opens_again_with_as_many_jets(campaign, tmp_path, to):
    done = CliRunner().invoke(cli.cli, ["export", str(campaign), "--to", to, "--out", str(tmp_path / "out"), "--json"])
    answer = json.loads(done.stdout)
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())

    assert done.exit_code == 0
    assert answer["n_files"] == len(files)
    assert len(hepfm.open(files)) == answer["n_jets"] == len(hepfm.open(campaign)) > 0


def test_export_to_a_format_that_there_is_not_is_one_line(campaign):
    refused = hepfm_data("export", campaign, "--to", "rooot")

    assert refused.returncode == 2
    assert "unknown format 'rooot'" in refused.stderr
    assert "Did you mean 'root'?" in refused.stderr
