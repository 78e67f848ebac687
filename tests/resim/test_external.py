"""External generators: a real one run on frozen events, and files of finished events found again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyhepmc
import pytest
from scipy.stats import ks_2samp

from hepfm import resim
from hepfm.errors import GeneratorError, InputError
from hepfm.formats.hepmc import HepmcReader, read_hepmc
from hepfm.resim.alignment import Traces, align, leaves_collision
from hepfm.resim.external import check_program, shower_externally
from hepfm.resim.generator import Beams
from hepfm.resim.hard import HardEvents, write_block
from hepfm.resim.hard_process import find_hard_process
from hepfm.resim.labels import find_targets, target_flavours
from hepfm.resim.particles import Particles
from hepfm.resim.records import finished_events, read_showered
from hepfm.resim.shower import Showered, shower
from hepfm.schema import JET_CLASSES, JET_FLAVOURS

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "external" / "pythia_hepmc.py"
SUPERVISOR = Path(resim.__file__).with_name("supervise.py")
PYTHIA = f"{sys.executable} {EXAMPLE} {{lhe}} {{hepmc}} {{seed}} {{n_events}}"
QUICK = ' --set "PartonLevel:MPI = off"'


def write_script(folder: Path, code: str) -> str:
    """The command of an external program of one's own; it may use `lhe`, `hepmc`, `seed` and `n`."""
    path = folder / "generator.py"
    path.write_text(f"import os, pathlib, subprocess, sys, time\nlhe, hepmc, seed, n = sys.argv[1:]\n{code}\n")
    return f"{sys.executable} {path} {{lhe}} {{hepmc}} {{seed}} {{n_events}}"


def pythia_file(events: HardEvents, path: Path, options: str = "") -> Path:
    """A HepMC file that the example program makes of frozen events, with its options."""
    lhe = path.with_name("hard.lhe.gz")
    write_block(lhe, events)
    words = [sys.executable, str(EXAMPLE), str(lhe), str(path), "7", str(events.n_events)]
    subprocess.run([*words, "--set", "PartonLevel:MPI = off", *options.split()], check=True)
    return path


def rewrite(path: Path, out: Path, change: Callable[[int, pyhepmc.GenEvent], bool | None]) -> Path:
    """Copy a HepMC file; `change` alters each event, and drops it where it returns False."""
    with pyhepmc.open(path) as file, pyhepmc.open(out, "w") as copy:
        for place, event in enumerate(file):
            if change(place, event) is not False:
                copy.write(event)
    return out


def without_hard_process(event: pyhepmc.GenEvent) -> None:
    """Hide the hard process: no status codes of Pythia's, and momenta that are no longer the frozen ones."""
    for particle in event.particles:
        if 20 < particle.status < 60:
            particle.status = 11
            momentum = particle.momentum
            particle.momentum = (momentum.px + 7, momentum.py, momentum.pz, momentum.e)


def traces_of(events: HardEvents, rows: list[int]) -> Traces:
    """What events made from these rows hold: all that the frozen ones hold."""
    taken = events.take(np.array(rows, np.int64))
    return Traces(taken.offsets, taken.pdg_id, taken.px, taken.py, taken.pz)


def aligned(events: HardEvents, traces: Traces, numbers: list[int] | None = None, marked: bool = True) -> list[int]:
    n = traces.n_events
    found = align(
        events, traces, np.arange(n) if numbers is None else np.array(numbers), np.full(n, marked), "the file x"
    )
    return found.tolist()


def silent(n: int) -> Traces:
    """Events that hold nothing of a hard process."""
    return Traces(np.arange(n + 1), np.full(n, 22, np.int32), *np.ones((3, n)))


def multiplicity(showered: Showered) -> np.ndarray:
    return showered.particles.counts


def transverse(particles: Particles) -> np.ndarray:
    """Scalar sum of the transverse momenta of the central particles of each event."""
    pt = np.hypot(particles.px, particles.py)
    with np.errstate(divide="ignore"):
        central = np.abs(np.arcsinh(particles.pz / pt)) < 2.5
    return np.add.reduceat(pt * central, particles.offsets[:-1])


@pytest.fixture(scope="module")
def hbb_file(tmp_path_factory: pytest.TempPathFactory, frozen: Callable[..., HardEvents]) -> tuple[HardEvents, Path]:
    """Twelve frozen events and what the external program makes of them."""
    events = frozen("Hbb").take(np.arange(12))
    return events, pythia_file(events, tmp_path_factory.mktemp("hbb") / "events.hepmc")


@pytest.fixture(scope="module")
def external_view(frozen: Callable[..., HardEvents]) -> tuple[HardEvents, Showered]:
    """100 frozen events, showered by the external program."""
    events = frozen("Hbb", 100)
    return events, shower_externally(events, PYTHIA + QUICK, 3)


def test_external_program_conserves_momentum_and_charge(external_view: tuple[HardEvents, Showered]) -> None:
    events, showered = external_view
    assert showered.rows.tolist() == list(range(events.n_events))
    particles = showered.particles

    def sums(name: str) -> np.ndarray:
        return np.add.reduceat(getattr(particles, name).astype(float), particles.offsets[:-1])

    assert sums("energy") == pytest.approx(13000.0, rel=1e-6)
    for axis in ("px", "py", "pz"):
        assert sums(axis) == pytest.approx(0.0, abs=0.01)
    assert (sums("charge") == 2).all()
    displaced = np.hypot(particles.x, particles.y)
    assert 0.01 < (displaced > 0.05).mean() < 0.6  # from b hadrons, K0S and Lambda are stable
    assert not np.isin([111, 511, 521], particles.pdg_id).any()


def test_external_pythia_agrees_with_our_own_on_the_same_events(external_view: tuple[HardEvents, Showered]) -> None:
    events, showered = external_view
    ours = shower(events, ("PartonLevel:MPI = off",), 1, "quick")
    assert ks_2samp(multiplicity(showered), multiplicity(ours)).pvalue > 0.01
    assert ks_2samp(transverse(showered.particles), transverse(ours.particles)).pvalue > 0.01
    charged = [np.abs(view.particles.charge).mean() for view in (showered, ours)]
    assert charged[0] == pytest.approx(charged[1], rel=0.05)


def test_cone_around_the_frozen_higgs_holds_its_mass(external_view: tuple[HardEvents, Showered]) -> None:
    events, showered = external_view
    targets = find_targets(events, "Hbb")
    p = showered.particles
    event = np.repeat(np.arange(events.n_events), p.counts)
    visible = ~np.isin(np.abs(p.pdg_id), (12, 14, 16))
    d_phi = (np.arctan2(p.py, p.px) - targets.phi[event] + np.pi) % (2 * np.pi) - np.pi
    near = visible & (np.hypot(np.arcsinh(p.pz / np.hypot(p.px, p.py)) - targets.eta[event], d_phi) < 0.8)
    px, py, pz, energy = (np.bincount(event, near * getattr(p, n)) for n in ("px", "py", "pz", "energy"))
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    # A cone of another event's Higgs would hold a few GeV.
    assert np.median(mass) == pytest.approx(120, abs=8)
    assert np.median(np.hypot(px, py) / targets.pt) == pytest.approx(0.97, abs=0.06)


def test_seed_and_number_of_events_reach_the_program(frozen: Callable[..., HardEvents], tmp_path: Path) -> None:
    events = frozen("Hbb").take(np.arange(2))
    command = write_script(tmp_path, "sys.exit(f'seed {seed} of {n}, {pathlib.Path(lhe).read_text()[:16]}')")
    with pytest.raises(GeneratorError, match="exit status 1: seed 987 of 2, <LesHouchesEvent"):
        shower_externally(events, command, 987)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_dropped_events_keep_their_rows_and_the_file_may_be_compressed(
    frozen: Callable[..., HardEvents], suffix: str
) -> None:
    events = frozen("Tbqq").take(np.arange(8))
    command = PYTHIA.replace("{hepmc}", "{hepmc}" + suffix) + QUICK + " --drop 3"
    showered = shower_externally(events, command, 5)
    assert showered.rows.tolist() == [0, 1, 3, 4, 6, 7]
    assert showered.particles.n_events == showered.gluons.n_events == 6
    assert showered.n_retried == 0


def test_particles_are_those_of_the_file(hbb_file: tuple[HardEvents, Path]) -> None:
    events, path = hbb_file
    particles = read_showered(path, events).particles
    with pyhepmc.open(path) as file:
        for i, event in enumerate(file):
            theirs = event.numpy.particles
            stable, ours = theirs.status == 1, slice(*particles.offsets[i : i + 2])
            for name, other in {"pdg_id": "pid", "px": "px", "energy": "e", "mass": "generated_mass"}.items():
                assert getattr(particles, name)[ours].tolist() == getattr(theirs, other)[stable].tolist()


def test_vetoed_events_are_left_out(hbb_file: tuple[HardEvents, Path], tmp_path: Path) -> None:
    """Jet merging writes them with weight 0; all others may be in another unit than the frozen events."""
    events, path = hbb_file

    def veto(place: int, event: pyhepmc.GenEvent) -> None:
        event.weights = [0.0 if place == 1 else 3e-9]

    whole, found = read_showered(path, events), read_showered(rewrite(path, tmp_path / "vetoed.hepmc", veto), events)
    assert found.rows.tolist() == [row for row in whole.rows.tolist() if row != 1]
    assert found.particles.n_events == found.gluons.n_events == len(found.rows)
    after = slice(whole.particles.offsets[2], None)
    assert found.particles.px[found.particles.offsets[1] :].tolist() == whole.particles.px[after].tolist()


def test_weights_of_their_own_are_refused(hbb_file: tuple[HardEvents, Path], tmp_path: Path) -> None:
    events, path = hbb_file

    def weigh(place: int, event: pyhepmc.GenEvent) -> None:
        event.weights = [1.0 + place]

    with pytest.raises(InputError, match=r"weights of their own, from 1 to \d+ times"):
        read_showered(rewrite(path, tmp_path / "weighted.hepmc", weigh), events)


@pytest.mark.parametrize("process", ["QCD", "Hbb", "Tbqq"])
def test_gluons_are_counted_as_by_the_targets(frozen: Callable[..., HardEvents], tmp_path: Path, process: str) -> None:
    events = frozen(process)
    n = 25 if process == "QCD" else 4
    events = events.take(np.arange(n))
    showered = read_showered(pythia_file(events, tmp_path / "events.hepmc"), events)
    targets = find_targets(events)
    assert showered.gluons.counts.tolist() == [
        (targets.gluon[a:b] >= 0).sum() for a, b in zip(targets.offsets[:-1], targets.offsets[1:], strict=True)
    ]
    flavours = target_flavours(targets, showered.gluons)
    assert (flavours[targets.pdg_id == 21] == JET_FLAVOURS["g"]).all()


def test_no_frozen_events_need_no_luck(frozen: Callable[..., HardEvents], tmp_path: Path) -> None:
    events = frozen("Hbb").take(np.arange(0))
    path = tmp_path / "empty.hepmc"
    path.write_text("HepMC::Version 3.02\nHepMC::Asciiv3-START_EVENT_LISTING\nHepMC::Asciiv3-END_EVENT_LISTING\n")
    showered = read_showered(path, events)
    assert showered.rows.tolist() == []
    assert showered.particles.n_events == showered.gluons.n_events == 0
    with pytest.raises(InputError, match=r"empty\.hepmc holds no events. Expected events made from the 3 frozen ones"):
        read_showered(path, frozen("Hbb").take(np.arange(3)))


# --- alignment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [range(20), [0, 3, 4, 19], [19], [], [7, 8, 9]])
def test_content_says_which_events_are_there(frozen: Callable[..., HardEvents], rows: list[int]) -> None:
    for process in ("Hbb", "QCD", "Tbqq"):
        events = frozen(process).take(np.arange(20))
        numbers = list(range(100, 100 + len(rows)))
        assert aligned(events, traces_of(events, list(rows)), numbers) == list(rows)


def test_content_is_found_though_energies_and_decays_have_moved(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Tbqq").take(np.arange(10))
    moved = np.where(leaves_collision(events), 1.0 + 1e-8, 1.3)
    rows = [1, 4, 5]
    assert aligned(events, traces_of(replace(events, px=events.px * moved), rows)) == rows


def test_two_equal_frozen_events_do_not_confuse(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb").take(np.array([0, 1, 1, 2, 1]))
    assert aligned(events, traces_of(events, [0, 1, 2, 3, 4])) == [0, 1, 2, 3, 4]
    assert aligned(events, traces_of(events, [0, 2, 3])) == [0, 1, 3]
    assert aligned(events, traces_of(events, [1, 2, 4])) == [1, 2, 4]


def test_events_of_other_frozen_events_are_refused(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb").take(np.arange(10))
    other = traces_of(frozen("Hbb"), [0, 1, 30, 3])
    with pytest.raises(InputError, match="hard process of event 3 is none of the frozen events"):
        aligned(events, other)
    with pytest.raises(InputError, match="hard process of event 3 is none of the frozen events"):
        aligned(events, other, marked=False)
    with pytest.raises(InputError, match="hard process of event 1 is none of the frozen events"):
        aligned(events, silent(10))
    with pytest.raises(InputError, match="hard process of event 2 is none of the frozen events"):
        aligned(events, traces_of(events, [5, 4]))  # not in order


def test_as_many_silent_events_are_taken_in_order(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb").take(np.arange(5))
    assert aligned(events, silent(5), [9, 9, 9, 9, 9], marked=False) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("numbers", "rows"),
    [
        ([0, 2, 3], [0, 2, 3]),
        ([1, 3, 10], [0, 2, 9]),
        ([0, 9], [0, 9]),
        ([0, 1, 2], None),  # may count what was written
        ([1, 2, 3], None),
        ([2, 4, 6], None),  # from 0 or from 1?
        ([0, 10], None),  # beyond the end when from 0
        ([1, 11], None),
        ([0, 5, 3], None),
        ([0, 5, 5, 6], None),
        ([0], None),
    ],
)
def test_silent_events_need_numbers_that_leave_no_doubt(
    frozen: Callable[..., HardEvents], numbers: list[int], rows: list[int] | None
) -> None:
    events = frozen("Hbb").take(np.arange(10))
    if rows is not None:
        assert aligned(events, silent(len(numbers)), numbers, marked=False) == rows
        return
    with pytest.raises(InputError, match=f"holds {len(numbers)} of 10 frozen events, and nothing says which"):
        aligned(events, silent(len(numbers)), numbers, marked=False)


def test_more_events_than_frozen_ones_are_refused(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb").take(np.arange(3))
    with pytest.raises(InputError, match="holds 4 events, more than the 3 frozen ones"):
        aligned(events, silent(4))


def test_file_of_a_generator_that_hides_the_hard_process_is_aligned_by_numbers(
    hbb_file: tuple[HardEvents, Path], tmp_path: Path
) -> None:
    events, path = hbb_file

    def hide(place: int, event: pyhepmc.GenEvent, first: int = 1) -> bool:
        without_hard_process(event)
        event.event_number = place + first
        return place not in (2, 5)

    numbered = rewrite(path, tmp_path / "numbered.hepmc", hide)
    kept = [0, 1, 3, 4, *range(6, 12)]
    showered = read_showered(numbered, events)
    assert showered.rows.tolist() == kept
    assert multiplicity(showered).tolist() == multiplicity(read_showered(path, events))[kept].tolist()
    with pytest.raises(InputError, match="holds 10 of 30 frozen events, and nothing says which"):
        read_showered(numbered, replace_events(events, 30))


def replace_events(events: HardEvents, n: int) -> HardEvents:
    """Longer by repeating."""
    return events.take(np.arange(n) % events.n_events)


def test_file_of_other_events_or_cut_short_is_refused(
    hbb_file: tuple[HardEvents, Path], frozen: Callable[..., HardEvents], tmp_path: Path
) -> None:
    events, path = hbb_file
    with pytest.raises(InputError, match=r"events\.hepmc: the hard process of event 1 is none of"):
        read_showered(path, frozen("Hbb").take(np.arange(20, 40)))
    cut = tmp_path / "cut.hepmc"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut\.hepmc: event \d is truncated"):
        read_showered(cut, events)


# --- the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("sh {lhe}", r"does not say \{hepmc\}"),
        ("sh {hepmc}", r"does not say \{lhe\}"),
        ("", r"does not say \{lhe\}"),
        ("sh {lhe} {hepmc} {n}", r"unknown placeholder \{n\}. Expected \{lhe\}, \{hepmc\}, \{seed\}, \{n_events\}"),
        ("sh '{lhe} {hepmc}", "cannot be split into words"),
        ("no-such-generator {lhe} {hepmc}", "'no-such-generator' is not found"),
        ("{lhe} {hepmc}", "is not found"),
    ],
)
def test_wrong_command_is_refused_before_anything_runs(command: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        check_program(command)


def test_program_and_files_are_found_from_where_the_command_was_given(
    hbb_file: tuple[HardEvents, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, path = hbb_file
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "mine.sh"
    script.write_text(f'#!/bin/sh\ntest "$PWD" != "{tmp_path}" && cat "$1" > "$2"\n')
    script.chmod(0o755)
    (tmp_path / "card.hepmc").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    command = "sub/mine.sh card.hepmc {hepmc} {lhe}"
    check_program(command)
    assert shower_externally(events, command, 1).rows.tolist() == list(range(12))


def test_failure_is_one_line_with_the_last_words_of_the_program(
    frozen: Callable[..., HardEvents], tmp_path: Path
) -> None:
    events = frozen("Hbb").take(np.arange(2))
    for code, problem in (
        ("print('early'); print('the PDF set is missing', file=sys.stderr); sys.exit(3)", "3: the PDF set is missing"),
        ("os.kill(os.getpid(), 9)", "137: it printed nothing"),
        ("pass", r"did not write \{hepmc\}"),
        ("pathlib.Path(hepmc).write_text('nonsense')", "is not a HepMC file"),
    ):
        with pytest.raises(GeneratorError, match=problem) as caught:
            shower_externally(events, write_script(tmp_path, code), 1)
        assert "\n" not in str(caught.value)


def test_program_what_it_started_and_its_folder_end_with_a_worker_that_is_killed(
    frozen: Callable[..., HardEvents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "pid"
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    command = write_script(
        tmp_path,
        f"child = subprocess.Popen({sleeper})\npathlib.Path({str(started)!r}).write_text(str(child.pid))\nchild.wait()",
    )
    block = tmp_path / "block.lhe.gz"
    write_block(block, frozen("Hbb").take(np.arange(1)))
    code = (
        "import sys; from pathlib import Path; from hepfm.resim.external import shower_externally\n"
        "from hepfm.resim.hard import read_block\n"
        "shower_externally(read_block(Path(sys.argv[1])), sys.argv[2], 1)"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    worker = subprocess.Popen([sys.executable, "-c", code, str(block), command])
    wait_until(lambda: started.exists() and started.read_text() != "")
    child = int(started.read_text())
    assert is_running(child)
    assert len(list(scratch.iterdir())) == 1
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not is_running(child))
    wait_until(lambda: not list(scratch.iterdir()))


def test_folder_is_there_until_its_caller_has_read_what_the_program_wrote(tmp_path: Path) -> None:
    """Or is gone: the caller may be killed after the program has ended, too."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    words = [sys.executable, SUPERVISOR, folder, "touch", "events.hepmc"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"0\n"
        assert [path.name for path in folder.iterdir()] == ["events.hepmc"]
    assert (list(tmp_path.iterdir()), supervisor.returncode) == ([], 0)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- finished events --------------------------------------------------------------------------------


@pytest.mark.parametrize("process", ["Hbb", "QCD", "Tbqq", "Hqql"])
def test_finished_events_give_the_targets_that_they_were_made_from(
    frozen: Callable[..., HardEvents], tmp_path: Path, process: str
) -> None:
    events = frozen(process).take(np.arange(10))
    path = pythia_file(events, tmp_path / "events.hepmc")
    with HepmcReader(path) as reader:
        found, showered = finished_events(reader, np.arange(100, 106), 2, 8)
    assert found.event_id.tolist() == list(range(100, 106))
    assert showered.rows.tolist() == list(range(6))
    assert found.beams == Beams()
    expected, targets = find_targets(events.take(np.arange(2, 8))), find_targets(found)
    for name in ("offsets", "pdg_id", "label", "gluon"):
        assert getattr(targets, name).tolist() == getattr(expected, name).tolist(), name
    # Resonances recoil against the initial state's radiation before they decay.
    assert np.median(np.hypot(targets.eta - expected.eta, targets.phi - expected.phi)) < 0.3
    if process == "QCD":
        partons = targets.label == JET_CLASSES.index("QCD")
        assert targets.pt[partons] == pytest.approx(expected.pt[partons], rel=1e-6)
    assert target_flavours(targets, showered.gluons).tolist() == expected.flavour.tolist()


def test_hard_process_does_not_depend_on_the_codes_of_one_generator(
    hbb_file: tuple[HardEvents, Path], tmp_path: Path
) -> None:
    _, path = hbb_file

    def old_style(_: int, event: pyhepmc.GenEvent) -> None:
        for particle in event.particles:
            if 20 < particle.status < 30:
                particle.status = 3

    def signal_vertex(_: int, event: pyhepmc.GenEvent) -> None:
        incoming = next(p for p in event.particles if p.status == 21)
        event.attributes["signal_process_vertex"] = incoming.end_vertex.id
        for particle in event.particles:
            if 20 < particle.status < 100:
                particle.status = 11

    reference = [find_hard_process(event) for event in read_hepmc(path)]
    for n, change in enumerate((old_style, signal_vertex)):
        copy = rewrite(path, tmp_path / f"{n}.hepmc", change)
        for ours, expected in zip(map(find_hard_process, read_hepmc(copy)), reference, strict=True):
            assert ours.particle.tolist() == expected.particle.tolist()
            assert ours.status.tolist() == expected.status.tolist()
            assert ours.mother1.tolist() == expected.mother1.tolist()


def test_record_that_shows_no_collision_still_shows_its_resonances(
    hbb_file: tuple[HardEvents, Path], tmp_path: Path
) -> None:
    _, path = hbb_file

    def anonymous(_: int, event: pyhepmc.GenEvent) -> None:
        for particle in event.particles:
            if 20 < particle.status < 100:
                particle.status = 11

    copy = rewrite(path, tmp_path / "anonymous.hepmc", anonymous)
    with HepmcReader(copy) as reader:
        found, showered = finished_events(reader, np.arange(12), 0, 12)
    assert (found.status >= 0).all()
    assert find_targets(found).label.tolist() == [JET_CLASSES.index("Hbb")] * 12
    assert showered.gluons.counts.tolist() == [0] * 12


def test_real_files_of_finished_events_are_read_with_their_hard_process(shared: Path) -> None:
    with HepmcReader(shared / "data" / "example_hepmc2.hepmc") as reader:
        top, showered = finished_events(reader, np.arange(1), 0, 1)
    assert find_targets(top).pdg_id[-2:].tolist() == [6, -6]
    assert sum(row[1] == -1 for row in top.particle_rows()[0]) == 2
    assert top.weight_names == ("Weight_MERGING=0.000",)
    assert top.cross_section.value == pytest.approx(507.24807)
    assert showered.particles.counts[0] > 300
    with HepmcReader(shared / "data" / "example_hepmc3.hepmc.zst") as reader:
        jets, showered = finished_events(reader, np.arange(25), 0, 25)
    assert (showered.particles.counts > 50).all()
    assert jets.beams.energy_a == pytest.approx(7000, rel=1e-3)
    assert jets.cross_section.value == pytest.approx(12943.3381)  # of the last event, which knows most


def test_file_that_is_shorter_than_asked_for_is_refused(hbb_file: tuple[HardEvents, Path]) -> None:
    with HepmcReader(hbb_file[1]) as reader, pytest.raises(InputError, match="ends after 12 events"):
        finished_events(reader, np.arange(5), 10, 15)
