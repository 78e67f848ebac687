"""HepMC files: what is in them is read, and what is damaged is refused."""

import bz2
import gzip
import lzma
import random
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyhepmc
import pytest
from backports import zstd

from hepfm.errors import InputError
from hepfm.formats.hepmc import HepmcEvent, HepmcReader, count_events, read_hepmc

COMPRESSIONS = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
COLUMNS = {
    "pdg_id": "pid",
    "status": "status",
    "px": "px",
    "py": "py",
    "pz": "pz",
    "energy": "e",
    "mass": "generated_mass",
}
BOTH = pytest.mark.parametrize("form", ["HepMC3", "HepMC2"])


def decay_chain(number: int) -> pyhepmc.GenEvent:
    """Two protons to a displaced B0, which decays in flight to a D- that decays at once: six particles in GeV, mm."""
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.event_number = number

    def particle(pdg_id: int, status: int, pz: float) -> pyhepmc.GenParticle:
        mass = 0.1 * (1 + number)
        made = pyhepmc.GenParticle((0.5, -0.25, pz, np.sqrt(pz**2 + 0.3125 + mass**2)), pdg_id, status)
        made.generated_mass = mass
        return made

    beams = particle(2212, 4, 6500), particle(2212, 4, -6500)
    b, pion, d, kaon, photon = (
        particle(*p) for p in ((511, 2, 40), (211, 1, 9), (-411, 2, 31), (321, 1, 30), (22, 1, 1))
    )
    for position, incoming, outgoing in (
        ((0.01, 0.02, 3.0, 4.0), beams, (b, photon)),
        ((0.4, -0.3, 5.0, 6.0), (b,), (pion, d)),
        ((0.0, 0.0, 0.0, 0.0), (d,), (kaon,)),
    ):
        vertex = pyhepmc.GenVertex(position)
        for p in incoming:
            vertex.add_particle_in(p)
        for p in outgoing:
            vertex.add_particle_out(p)
        event.add_vertex(vertex)
    event.weights = [2.5 + number, -1.0]
    section = pyhepmc.GenCrossSection()
    section.set_cross_section(12.5, 0.5)
    event.cross_section = section
    return event


def write(path: Path, events: list[pyhepmc.GenEvent], form: str = "HepMC3") -> Path:
    run = pyhepmc.GenRunInfo()
    run.weight_names = ["nominal", "muR=2 | up"]
    with pyhepmc.open(path, "w", format=form) as file:
        for event in events:
            event.run_info = run
            file.write(event)
    return path


@pytest.fixture
def five(tmp_path: Path) -> Callable[[str], Path]:
    """A file of five events: `five("HepMC2")`."""
    return lambda form: write(tmp_path / f"{form}.hepmc", [decay_chain(n) for n in range(5)], form)


def assert_same(first: HepmcEvent, second: HepmcEvent) -> None:
    for field in fields(HepmcEvent):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), field.name)


def rows_3(text: str) -> list[list[float]]:
    """Particles of an event of HepMC 3 as its text has them: see `rows_of`."""
    particles = [line.split()[2:] for line in re.findall("^P .*", text, re.MULTILINE)]
    lines = re.findall(r"^V (-\d+) \d+ \[([\d,]+)\](?: @ (.*))?", text, re.MULTILINE)
    into = {int(number): [int(p) for p in incoming.split(",")] for number, incoming, _ in lines}
    place = {int(number): [float(x) for x in at.split()[:3]] for number, _, at in lines if at}
    mother = [int(line.split()[2]) for line in re.findall("^P .*", text, re.MULTILINE)]

    def position(particle: int) -> list[float]:
        origin = mother[particle - 1]
        if origin == 0:
            return [0.0, 0.0, 0.0]
        return place.get(origin) or position(origin if origin > 0 else into[origin][0])

    n_parents = [0 if m == 0 else 1 if m > 0 else len(into[m]) for m in mother]
    goes_into = {p: number for number, incoming in into.items() for p in incoming}
    n_children = [mother.count(goes_into.get(i + 1, i + 1)) for i in range(len(particles))]
    return [
        [float(x) for x in fields[1:]] + position(i + 1) + [n_parents[i], n_children[i]]
        for i, fields in enumerate(particles)
    ]


def rows_2(text: str) -> list[list[float]]:
    """Particles of an event of HepMC 2 as its text has them: see `rows_of`."""
    particles, place, n_in, n_out, first_in = [], {}, {}, {}, {}
    for line in text.splitlines():
        fields = line.split()
        if fields[0] == "V":
            vertex, orphans = fields[1], int(fields[7])
            place[vertex] = [float(x) for x in fields[3:6]] if any(float(x) for x in fields[3:7]) else None
        elif fields[0] == "P":
            origin, orphans = (vertex, orphans) if orphans == 0 else ("none", orphans - 1)
            particles.append((fields, origin))
    for fields, origin in sorted(particles, key=lambda p: int(p[0][1])):
        n_out[origin] = n_out.get(origin, 0) + 1
        n_in[fields[11]] = n_in.get(fields[11], 0) + 1
        first_in.setdefault(fields[11], origin)

    def position(vertex: str) -> list[float]:
        return [0.0, 0.0, 0.0] if vertex == "none" else place[vertex] or position(first_in[vertex])

    return [
        [float(x) for x in fields[2:9]]
        + position(origin)
        + [n_in.get(origin, 0), n_out.get(fields[11], 0) if fields[11] != "0" else 0]
        for fields, origin in particles
    ]


def rows_of(event: HepmcEvent) -> list[list[float]]:
    """Particle for particle: PDG id, momentum, mass, status, production vertex, numbers of parents and children."""
    columns = ("pdg_id", "px", "py", "pz", "energy", "mass", "status", "x", "y", "z")
    values = [getattr(event, column).tolist() for column in columns]
    family = [(len(event.parents(i)), len(event.children(i))) for i in range(len(event.pdg_id))]
    return [[*row, *numbers] for *row, numbers in zip(*values, family, strict=True)]


def test_real_file_of_hepmc_3_is_read_as_its_text_says(shared: Path) -> None:
    path = shared / "data" / "example_hepmc3.hepmc.zst"
    texts = zstd.decompress(path.read_bytes()).decode().split("\nE ")[1:]
    assert count_events(path) == len(texts) == 25
    for event, text in zip(read_hepmc(path, 0, 8), texts, strict=False):
        assert rows_of(event) == rows_3(text)
        value, error = re.search("GenCrossSection (\\S+) (\\S+)", text).groups()
        assert event.cross_section == (float(value), float(error))
        assert event.weights.tolist() == [1.0]
        assert event.weight_names == ("Weight",)


def test_real_file_of_hepmc_2_is_read_as_its_text_says(shared: Path) -> None:
    path = shared / "data" / "example_hepmc2.hepmc"
    (event,) = read_hepmc(path)
    text = path.read_text().partition("\nE ")[2].partition("\nHepMC::")[0]
    assert sorted(rows_of(event)) == sorted(rows_2(text))
    assert event.cross_section == (507.24807, 0.0)
    assert event.weights.tolist() == [507.24807, 50.724807]
    assert event.weight_names == ("Weight", "Weight_MERGING=0.000")


@pytest.mark.parametrize("name", ["example_hepmc3.hepmc.zst", "example_hepmc2.hepmc"])
def test_stable_particles_of_a_real_file_have_the_energy_and_charge_of_the_beams(shared: Path, name: str) -> None:
    for event in read_hepmc(shared / "data" / name):
        stable, beams = event.status == 1, event.status == 4
        for axis in ("px", "py", "pz", "energy"):
            values = getattr(event, axis)
            assert values[stable].sum() == pytest.approx(values[beams].sum(), abs=1e-4 * event.energy[beams].sum())


@BOTH
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_written_event_is_read_back_to_the_last_bit(
    five: Callable[[str], Path], tmp_path: Path, form: str, suffix: str
) -> None:
    path = tmp_path / "events"  # what a file holds counts, not what it is called
    path.write_bytes(COMPRESSIONS[suffix](five(form).read_bytes()))
    assert count_events(path) == 5
    for number, event in enumerate(read_hepmc(path)):
        reference = decay_chain(number).numpy.particles
        order = [reference.pid.tolist().index(pdg_id) if pdg_id != 2212 else None for pdg_id in event.pdg_id.tolist()]
        assert sum(i is None for i in order) == 2
        for column, other in COLUMNS.items():
            expected = [getattr(reference, other)[i] for i in order if i is not None]
            assert getattr(event, column)[event.status != 4].tolist() == pytest.approx(expected, rel=1e-14)
        assert event.number == event.index == number
        assert event.weights.tolist() == [2.5 + number, -1.0]
        assert event.weight_names == ("nominal", "muR=2 | up")
        assert event.cross_section == (12.5, 0.5)


@BOTH
def test_graph_gives_decays_and_vertices_as_far_back_as_needed(five: Callable[[str], Path], form: str) -> None:
    event = next(read_hepmc(five(form)))
    place = {pdg_id: i for i, pdg_id in enumerate(event.pdg_id.tolist())}
    b, pion, d, kaon = (place[pdg_id] for pdg_id in (511, 211, -411, 321))
    assert event.children(b).tolist() == sorted([pion, d])
    assert event.children(kaon).tolist() == []
    assert event.parents(kaon).tolist() == [d]
    assert event.pdg_id[event.parents(b)].tolist() == [2212, 2212]
    # The D- decays where it is made: its vertex has no position of its own.
    assert event.x[[b, pion, d, kaon]].tolist() == [0.01, 0.4, 0.4, 0.4]
    assert event.z[[b, pion, d, kaon]].tolist() == [3.0, 5.0, 5.0, 5.0]


@BOTH
def test_units_of_the_file_become_gev_and_mm(five: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    events = [decay_chain(n) for n in range(2)]
    expected = list(read_hepmc(write(tmp_path / "gev", events, form)))
    for event in events:
        event.set_units(pyhepmc.Units.MEV, pyhepmc.Units.CM)
    path = write(tmp_path / "mev", events, form)
    assert b"U MEV CM" in path.read_bytes()
    for event, reference in zip(read_hepmc(path), expected, strict=True):
        for column in ("px", "pz", "energy", "mass", "x", "z"):
            assert getattr(event, column) == pytest.approx(getattr(reference, column), rel=1e-12)


BEAMS = "P 1 0 2212 0 0 10 10 0 4\nP 2 0 2212 0 0 -10 10 0 4\n"


def hand_written(path: Path, event: str) -> HepmcEvent:
    path.write_text(
        f"HepMC::Version 3.02.05\nHepMC::Asciiv3-START_EVENT_LISTING\n{event}HepMC::Asciiv3-END_EVENT_LISTING\n\n"
    )
    (read,) = read_hepmc(path)
    return read


def test_vertex_without_a_position_lies_where_the_event_lies(tmp_path: Path) -> None:
    event = hand_written(
        tmp_path / "shifted",
        f"E 9 2 5 @ 1 2 3 4\nU MEV CM\nW 2.5\n{BEAMS}V -1 0 [1,2]\nP 3 -1 23 0 0 0 20 20 2\n"
        "V -2 0 [3] @ 0 0 0.5 0\nP 4 -2 11 0 5 5 10 0.5 1\nP 5 -2 -11 0 -5 -5 10 0.5 1\n",
    )
    assert (event.number, event.weights.tolist(), event.weight_names) == (9, [2.5], ("0",))
    assert event.x[2:].tolist() == [10, 0, 0]
    assert event.z[2:].tolist() == [30, 5, 5]
    assert event.mass[2:].tolist() == [0.02, 0.0005, 0.0005]


def test_vertices_may_come_in_any_order(tmp_path: Path) -> None:
    event = hand_written(
        tmp_path / "mixed",
        f"E 0 3 5\nU GEV MM\nW 1\nA 0 signal_process_vertex -3\n{BEAMS}V -3 0 [1,2] @ 1 2 3 4\nP 3 -3 23 0 0 1 1 0 2\n"
        "P 4 3 24 0 0 0 0 0 2\nV -1 0 [4] @ 5 6 7 8\nP 5 -1 22 0 0 0 0 0 1\n",
    )
    assert event.x[2:].tolist() == [1, 1, 5]
    assert [event.parents(i).tolist() for i in range(5)] == [[], [], [0, 1], [2], [3]]
    assert np.flatnonzero(event.end == event.signal_vertex).tolist() == [0, 1]


def test_event_without_vertices_weights_and_units_is_read(tmp_path: Path) -> None:
    event = hand_written(tmp_path / "bare", f"E 0 0 2\n{BEAMS}")
    assert event.pz.tolist() == [10, -10]
    assert event.weights.tolist() == [1]
    assert (event.production == -1).all()
    assert event.cross_section is None


def test_barcodes_of_hepmc_2_need_not_be_consecutive(tmp_path: Path) -> None:
    particles = (
        "P {} 2212 0 0 10 10 0 4 0 0 -20 0",
        "P {} 511 0 0 5 5 0 2 0 0 -3000 0",
        "P {} 211 0 0 5 5 0 1 0 0 0 0",
    )
    first, b, pion = (line.format(number) for line, number in zip(particles, (10, 31, 500), strict=True))
    (tmp_path / "a").write_text(
        "HepMC::IO_GenEvent-START_EVENT_LISTING\nE 7 -1 -1 -1 -1 9999 -3000 2 10 11 0 1 2.5\n"
        f"V -20 0 1 2 3 4 2 1 0\n{first}\n{first.replace('P 10', 'P 11')}\n{b}\nV -3000 0 5 6 7 4 0 1 0\n{pion}\n"
        "HepMC::IO_GenEvent-END_EVENT_LISTING\n"
    )
    (event,) = read_hepmc(tmp_path / "a")
    assert event.pdg_id.tolist() == [2212, 2212, 511, 211]
    assert event.z.tolist() == [0, 0, 3, 7]
    assert event.pdg_id[event.end == event.signal_vertex].tolist() == [511]


def test_hard_vertex_is_found_where_the_file_names_it(five: Callable[[str], Path], tmp_path: Path) -> None:
    event = decay_chain(0)
    assert next(read_hepmc(write(tmp_path / "a", [event]))).signal_vertex == -1
    event.attributes["signal_process_vertex"] = -1
    named = next(read_hepmc(write(tmp_path / "b", [event])))
    assert named.pdg_id[named.end == named.signal_vertex].tolist() == [2212, 2212]
    text = five("HepMC2").read_bytes().split(b"\n")
    line = next(i for i, words in enumerate(text) if words.startswith(b"E "))
    words = text[line].split()
    words[7] = b"-1"
    text[line] = b" ".join(words)
    (tmp_path / "c").write_bytes(b"\n".join(text))
    named = next(read_hepmc(tmp_path / "c"))
    assert named.pdg_id[named.end == named.signal_vertex].tolist() == [2212, 2212]


def test_reader_goes_on_where_it_was_and_back_too(shared: Path) -> None:
    path = shared / "data" / "example_hepmc3.hepmc.zst"
    events = list(read_hepmc(path))
    with HepmcReader(path) as reader:
        for start, stop in ((2, 5), (5, 6), (9, 9), (11, 14), (0, 2), (23, None), (30, None), (24, 99)):
            read = list(reader.read(start, stop))
            assert [event.index for event in read] == list(range(25))[start:stop]
            for event in read:
                assert_same(event, events[event.index])


@BOTH
def test_files_joined_end_to_end_are_one_file(five: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    path = tmp_path / "joined"
    path.write_bytes(five(form).read_bytes() + five("HepMC2").read_bytes() + five("HepMC3").read_bytes())
    assert count_events(path) == 15
    events = list(read_hepmc(path))
    assert [event.number for event in events] == [*range(5)] * 3
    assert {event.weight_names for event in events} == {("nominal", "muR=2 | up")}


@BOTH
def test_file_without_its_footer_is_whole_if_its_last_event_is(
    five: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    path = tmp_path / "unclosed"
    path.write_bytes(five(form).read_bytes().rpartition(b"HepMC::")[0])
    assert count_events(path) == 5


@BOTH
def test_file_cut_within_an_event_is_refused_wherever_it_is_cut(
    five: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    whole = five(form).read_bytes()
    fifth = whole.rindex(b"\nE ") + 1
    footer = whole.rindex(b"HepMC::")
    path = tmp_path / "cut.hepmc"
    for size in [*range(fifth + 3, footer, 11), footer - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.hepmc: event 5 is truncated"):
            count_events(path)
        assert len(list(read_hepmc(path, 0, 4))) == 4
        with pytest.raises(InputError, match=r"cut\.hepmc: event 5 is truncated"):
            list(read_hepmc(path))


@pytest.mark.parametrize("suffix", [s for s in COMPRESSIONS if s])
def test_compressed_file_cut_anywhere_is_refused(shared: Path, tmp_path: Path, suffix: str) -> None:
    text = zstd.decompress((shared / "data" / "example_hepmc3.hepmc.zst").read_bytes())
    packed = COMPRESSIONS[suffix](text[: 3 << 19])
    path = tmp_path / "cut.hepmc"
    for share in (0.1, 0.9, 0.999):
        path.write_bytes(packed[: int(share * len(packed))])
        with pytest.raises(InputError, match=r"cut\.hepmc breaks off at event \d+ or soon after"):
            count_events(path)


@BOTH
def test_no_damage_ends_in_anything_but_an_error_of_ours(
    five: Callable[[str], Path], tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write(tmp_path / "two", [decay_chain(n) for n in range(2)], form).read_bytes()
    draw = random.Random(1)
    tokens = [b"nan", b"-", b"1e400", b"-7", b"99999999999", b"[", b"0x1", b"", b"\xff", b"2 3", b"\n", b"1.5"]
    # Each of these leads pyhepmc somewhere: to another particle, or out of its memory.
    tokens += [b"0", b"1", b"3", b"-1", b"-3", b"7", b"100000", b"-100000", b"2000000000", b"[100000]", b"\x00"]
    path = tmp_path / "damaged.hepmc"
    refused = 0
    for round_ in range(300):
        between = draw.choice([b" ", b" ", b"\n"])
        parts = whole.split(between)
        for _ in range(draw.choice([1, 1, 5])):
            parts[draw.randrange(1, len(parts))] = draw.choice(tokens if between == b" " else parts)
        path.write_bytes(between.join(parts))
        try:
            for event in read_hepmc(path):
                assert np.isfinite([event.px, event.py, event.pz, event.energy, event.mass, event.x]).all(), round_
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error).replace(str(path), "")
    assert refused > 150
    assert capfd.readouterr() == ("", "")  # pyhepmc would print


@pytest.mark.parametrize(
    ("form", "old", "new", "problem"),
    [
        ("HepMC3", rb"\nP 6 .*", b"", "7 particles announced, 6 found"),
        ("HepMC3", rb"\nV -2 .*", b"", "vertices and what comes from them do not agree"),
        ("HepMC3", rb" 3 7\n", b" 4 7\n", "4 vertices announced, 3 found"),
        ("HepMC3", rb"\[1,2\]", b"[1,200000]", "goes into a vertex does not exist"),  # ends the process in pyhepmc
        ("HepMC3", rb"\[1,2\]", b"[1,3]", "goes into two vertices"),
        ("HepMC2", rb"\nP 10006 .*", b"", "particles of a vertex are missing"),
        ("HepMC2", rb"\nP 10001 .*", b"", "particles of a vertex are missing"),
        ("HepMC2", rb" -2 0\n", b" -9 0\n", "a particle's vertex does not exist"),
        ("HepMC2", rb" -2 0\n", b" 0 0\n", "no particle that goes in"),  # ends the process in pyhepmc
        ("HepMC2", rb"\nV -3 [^H]*", b"\n", "3 vertices announced, 2 found"),
    ],
)
def test_event_that_pyhepmc_would_take_is_refused(
    tmp_path: Path, form: str, old: bytes, new: bytes, problem: str
) -> None:
    path = write(tmp_path / "odd.hepmc", [decay_chain(0)], form)
    whole = path.read_bytes()
    damaged = re.sub(old, new, whole, count=1)
    assert damaged != whole
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=rf"odd\.hepmc: event 1 is truncated or malformed \(.*{problem}"):
        list(read_hepmc(path))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"4.0000000000000000e+01", b"nan", r"'P \d+ .*nan.* is no line of HepMC"),
        (b"4.0000000000000000e+01", b"4e999", "not finite"),
        (b" 511 ", b" 99999999999 ", "'P .* 99999999999 .* is no line of HepMC"),
        (b"U GEV MM", b"U TEV MM", "'U TEV MM' is no line of HepMC"),
    ],
)
@BOTH
def test_event_that_cannot_be_is_refused_with_its_number(
    five: Callable[[str], Path], tmp_path: Path, form: str, old: bytes, new: bytes, problem: str
) -> None:
    before, mark, rest = five(form).read_bytes().partition(b"\nE 3 ")
    assert old in rest
    path = tmp_path / "odd.hepmc"
    path.write_bytes(before + mark + rest.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"odd\.hepmc: event 4 is truncated or malformed \(.*{problem}"):
        list(read_hepmc(path))


def test_file_of_another_kind_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*missing"):
        count_events(tmp_path / "missing")
    for content in (b"", b"<LesHouchesEvents>\n", gzip.compress(b"E 1 2 3\n"), bytes(range(256))):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(InputError, match="other is not a HepMC file"):
            list(read_hepmc(tmp_path / "other"))
