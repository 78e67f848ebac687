"""Les Houches files: nothing is lost, and nothing damaged gets through."""

import gzip
import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pylhe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.formats.lhe import read_lhe, scan, write_lhe
from hepfm.resim.hard import (
    EVENT_COLUMNS,
    PARTICLE_COLUMNS,
    HardEvents,
    concatenate,
    freeze_lhe,
    read_block,
    write_block,
)

REAL_FILES = ("madgraph5_pp_to_jj.lhe.gz", "powheg_hvq.lhe", "pythia6_ttbar.lhe", "madgraph_zjets_mlm.lhe.gz")

INIT = pylhe.LHEInit(
    pylhe.LHEInitInfo(2212, 2212, 6500.0, 6500.0, 0, 0, 0, 0, -4, 1),
    [pylhe.LHEProcInfo(1.25, 0.5, 1.0, 1)],
    [],
)

PLAIN = """<LesHouchesEvents version="3.0">
<init>
2212 2212 6500.0 6500.0 0 0 0 0 3 1
1.25 0.5 1.0 1
</init>
{events}</LesHouchesEvents>
"""

EVENT = """<event>
4 1 1.0 100.0 0.0078 0.118
21 -1 0 0 501 502 0.0 0.0 100.0 100.0 0.0 0.0 9.0
21 -1 0 0 502 501 0.0 0.0 -100.0 100.0 0.0 0.0 9.0
1 1 1 2 503 0 60.0 80.0 0.0 100.0 0.0 0.0 9.0
-1 1 1 2 0 503 -60.0 -80.0 0.0 100.0 0.0 0.0 9.0
</event>
"""

any_float = st.floats(allow_nan=False, allow_infinity=False)
any_word = st.text("abcXYZ_0123456789.:=-+<>&'\" é", min_size=1, max_size=12).map(str.strip).filter(bool)


def write_plain(path: Path, events: str) -> Path:
    path.write_text(PLAIN.format(events=events), encoding="utf-8")
    return path


def read_until_damage(path: Path) -> tuple[list[pylhe.LHEEvent], str]:
    """The events that a damaged file gives, and what the error says."""
    events: list[pylhe.LHEEvent] = []
    with pytest.raises(InputError) as raised:
        events.extend(read_lhe(path)[1])  # extend keeps what came before the error
    message = str(raised.value)
    assert "\n" not in message
    return events, message


def assert_same_events(first: HardEvents, second: HardEvents) -> None:
    assert first.beams == second.beams
    assert first.weight_names == second.weight_names
    for name in ("offsets", *EVENT_COLUMNS, *PARTICLE_COLUMNS):
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == b.dtype
        # Bytes, not values: -0.0 and 0.0 differ.
        assert a.tobytes() == b.tobytes(), name


@st.composite
def lhe_events(draw: st.DrawFn) -> pylhe.LHEEvent:
    """Two incoming and two outgoing particles of the same momenta, so that momentum is conserved."""
    momenta = [[*p, max(map(abs, p))] for p in ([draw(any_float) for _ in range(3)] for _ in range(2))]
    particles = [
        pylhe.LHEParticle(
            draw(st.integers(-(2**31), 2**31 - 1)),
            status,
            *((1, 2) if status == 1 else (0, 0)),
            draw(st.integers(0, 2**31 - 1)),
            draw(st.integers(0, 2**31 - 1)),
            *momentum,
            draw(any_float),
            draw(any_float),
            draw(any_float),
        )
        for status in (-1, 1)
        for momentum in momenta
    ]
    info = pylhe.LHEEventInfo(4, draw(st.integers(0, 99)), *(draw(any_float) for _ in range(4)))
    weights = draw(st.dictionaries(any_word, any_float, max_size=4))
    return pylhe.LHEEvent(info, particles, weights, attributes={"event_id": str(draw(st.integers(0, 2**62)))})


@settings(max_examples=80, deadline=None, derandomize=True)
@given(events=st.lists(lhe_events(), max_size=3))
def test_every_number_survives_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, events: list[pylhe.LHEEvent]
) -> None:
    path = tmp_path_factory.mktemp("lhe") / "events.lhe.gz"
    write_lhe(path, INIT, events)
    file, stream = read_lhe(path)
    found = list(stream)
    assert file.init.initInfo == INIT.initInfo
    assert file.init.procInfo == INIT.procInfo
    assert len(found) == len(events)
    for ours, theirs in zip(events, found, strict=True):
        assert repr(theirs.eventinfo) == repr(ours.eventinfo)
        assert [repr(p) for p in theirs.particles] == [repr(p) for p in ours.particles]
        assert {n: repr(w) for n, w in theirs.weights.items()} == {n: repr(w) for n, w in ours.weights.items()}
        assert theirs.attributes == ours.attributes


def test_same_events_give_the_same_bytes_under_any_name(tmp_path: Path, frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb").take(np.arange(20))
    write_block(tmp_path / "first.lhe.gz", events)
    write_block(tmp_path / "elsewhere" / "second.lhe.gz", events)
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*.gz")}
    assert len(digests) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["elsewhere", "first.lhe.gz", "second.lhe.gz"]


@pytest.mark.parametrize("process", ["QCD", "H4q", "Tbl"])
def test_frozen_events_come_back_from_disk_to_the_last_bit(
    tmp_path: Path, frozen: Callable[..., HardEvents], process: str
) -> None:
    events = frozen(process).take(np.arange(20))
    write_block(tmp_path / "block.lhe.gz", events)
    back = read_block(tmp_path / "block.lhe.gz")
    assert_same_events(back, events)
    assert back.cross_section == events.cross_section


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_events_and_their_weights_come_back_from_disk_to_the_last_bit(
    tmp_path: Path, shared: Path, name: str
) -> None:
    block = next(freeze_lhe(shared / "data" / name, (), 1, range(50, 70), 20))
    write_block(tmp_path / "block.lhe.gz", block)
    back = read_block(tmp_path / "block.lhe.gz")
    assert_same_events(back, block)
    assert back.cross_section == block.cross_section


def test_all_145_weights_of_madgraph_are_those_of_the_file(tmp_path: Path, shared: Path) -> None:
    path = shared / "data" / "madgraph5_pp_to_jj.lhe.gz"
    block = next(freeze_lhe(path, (), 1, range(10), 10))
    write_block(tmp_path / "block.lhe.gz", block)
    back = read_block(tmp_path / "block.lhe.gz")
    with gzip.open(path, "rt") as file:
        text = file.read().split("<event>")[1:11]
    expected = [[float(w) for w in re.findall(r"<wgt id=[^>]*>\s*(\S+)\s*</wgt>", event)] for event in text]
    assert back.weights.shape == (10, 145)
    assert back.weights.tolist() == expected
    assert back.weight.tolist() == [float(event.split()[2]) for event in text]


def test_weight_that_only_some_events_carry_stays_with_those(tmp_path: Path, frozen: Callable[..., HardEvents]) -> None:
    weights = np.array([[1.5, np.nan], [np.nan, np.nan], [-2.5, 1e-300]])
    columns = vars(frozen("Hbb").take(np.arange(3))) | {"weights": weights, "weight_names": ("a & b", "<c>")}
    write_block(tmp_path / "block.lhe.gz", HardEvents(**columns))
    back = read_block(tmp_path / "block.lhe.gz")
    assert back.weight_names == ("a & b", "<c>")
    np.testing.assert_array_equal(back.weights, weights)


def test_blocks_whose_weights_have_different_names_can_be_joined(frozen: Callable[..., HardEvents]) -> None:
    first, second = (vars(frozen("Hbb").take(np.arange(start, start + 2))) for start in (0, 2))
    joined = concatenate(
        [
            HardEvents(**first | {"weights": np.array([[1.0], [2.0]]), "weight_names": ("a",)}),
            HardEvents(**second | {"weights": np.array([[3.0, 4.0], [5.0, 6.0]]), "weight_names": ("b", "a")}),
        ]
    )
    assert joined.weight_names == ("a", "b")
    np.testing.assert_array_equal(joined.weights, [[1.0, np.nan], [2.0, np.nan], [4.0, 3.0], [6.0, 5.0]])
    assert joined.event_id.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", REAL_FILES)
def test_scan_counts_the_events_of_real_files_and_knows_their_origin(shared: Path, name: str) -> None:
    counts = dict(zip(REAL_FILES, (1000, 6, 100, 10_000), strict=True))
    found = scan(shared / "data" / name)
    assert found.n_events == counts[name]
    assert found.from_powheg == name.startswith("powheg")
    assert found.is_merged == name.endswith("mlm.lhe.gz")


def test_scan_of_a_truncated_file_counts_the_events_that_begin(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "events.lhe", EVENT * 5)
    path.write_text(path.read_text(encoding="utf-8")[: -len(EVENT)], encoding="utf-8")
    packed = tmp_path / "events.lhe.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0)[:-4])
    assert scan(path).n_events == 5
    assert scan(packed).n_events == 5


def test_plain_and_packed_file_give_the_same_events(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "events.lhe", EVENT * 3)
    packed = tmp_path / "events.lhe.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert [e.particles for e in read_lhe(path)[1]] == [e.particles for e in read_lhe(packed)[1]]


@pytest.mark.parametrize(
    "cut", ["<event>\n4", "503 0 60.0", "</event>\n</Les"], ids=["header", "momentum", "end of the file"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file_gives_the_events_before_and_names_the_one_that_is_cut(
    tmp_path: Path, cut: str, packed: bool
) -> None:
    text = PLAIN.format(events=EVENT * 4)
    content = text[: text.rindex(cut) + len(cut) - 2]
    path = tmp_path / "cut.lhe"
    path.write_bytes(gzip.compress(content.encode(), mtime=0) if packed else content.encode())
    events, message = read_until_damage(path)
    n_whole = content.count("</event>")
    assert len(events) == n_whole
    assert f"event {n_whole + 1} " in message
    assert str(path) in message


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_truncated_gzip_stream_of_real_events_names_the_event(tmp_path: Path, shared: Path, share: float) -> None:
    content = (shared / "data" / "madgraph5_pp_to_jj.lhe.gz").read_bytes()
    path = tmp_path / "cut.lhe.gz"
    path.write_bytes(content[: int(share * len(content))])
    events, message = read_until_damage(path)
    assert abs(len(events) - 1000 * share) < 100
    assert f"event {len(events) + 1} " in message


def test_flipped_bytes_of_a_gzip_file_are_found(tmp_path: Path, shared: Path) -> None:
    content = bytearray((shared / "data" / "madgraph5_pp_to_jj.lhe.gz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "flipped.lhe.gz"
    path.write_bytes(content)
    events, message = read_until_damage(path)
    assert f"event {len(events) + 1} " in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("60.0 80.0", "6x.0 80.0", "6x.0"),
        ("4 1 1.0", "5 1 1.0", "5 particles announced, 4 found"),
        ("4 1 1.0", "3 1 1.0", "3 particles announced, 4 found"),
        ("60.0 80.0", "nan 80.0", "finite"),
        ("60.0 80.0", "60.0 inf", "finite"),
        ("100.0 0.0 0.0 9.0\n-1", "100.0 0.0 nan 9.0\n-1", "finite"),
        ("4 1 1.0 100.0", "4 1 nan 100.0", "finite"),
        ("4 1 1.0 100.0", "4 1 1.0 nan", "finite"),
        ("60.0 80.0", "60.0 85.0", "four-momentum is not conserved"),
        ("1 1 1 2 503", "1 1 1 9 503", "mothers"),
        ("1 1 1 2 503", "1 1 -1 2 503", "mothers"),
        ("21 -1 0 0 502", "21 1 0 0 502", "two incoming"),
        ("4 1 1.0 100.0 0.0078 0.118", "4 1 1.0", "malformed"),
        ("4 1 1.0 100.0 0.0078 0.118", "", "malformed"),
        (" 9.0\n-1", "\n-1", "malformed"),
        ("</event>", "</evnt>", "malformed"),
        (EVENT, "<event></event>\n", "malformed"),
        (EVENT, "<event>\n</event>\n", "malformed"),
    ],
)
def test_damaged_event_is_named_with_what_is_wrong(tmp_path: Path, old: str, new: str, said: str) -> None:
    damaged = EVENT.replace(old, new, 1)
    assert damaged != EVENT
    path = write_plain(tmp_path / "damaged.lhe", EVENT * 2 + damaged + EVENT)
    events, message = read_until_damage(path)
    assert len(events) == 2
    assert "event 3 " in message
    assert said in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"not an event file",
        b"<html><body>404 Not Found</body></html>",
        b"<LesHouchesEvents version='3.0'></LesHouchesEvents>",
        b"<LesHouchesEvents version='3.0'>\n<init>\n2212 2212\n</init>\n</LesHouchesEvents>",
        b"<LesHouchesEvents version='3.0'>\n<init>\n2212 22",
        b"\x89HDF\r\n\x1a\n" + bytes(range(256)),
        gzip.compress(b"not an event file", mtime=0),
        gzip.compress(b"not an event file", mtime=0)[:12],
        b"\x1f\x8b not gzip at all",
    ],
)
def test_file_that_is_not_lhe_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.lhe"
    path.write_bytes(content)
    events, message = read_until_damage(path)
    assert not events
    assert str(path) in message


def test_missing_file_and_folder_are_one_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.lhe", tmp_path):
        for function in (read_lhe, scan):
            with pytest.raises(InputError, match=re.escape(str(path))):
                function(path)


def test_file_without_events_holds_none(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "empty.lhe", "")
    assert list(read_lhe(path)[1]) == []
    assert scan(path).n_events == 0


def test_real_files_conserve_momentum_and_hold_finite_numbers(shared: Path) -> None:
    for name in REAL_FILES[:3]:
        for event in read_lhe(shared / "data" / name)[1]:
            out = [p for p in event.particles if p.status == 1]
            incoming = [p for p in event.particles if p.status == -1]
            total = sum(p.e for p in incoming)
            assert math.isclose(sum(p.e for p in out), total, rel_tol=1e-3)
            assert abs(sum(p.pz for p in out) - sum(p.pz for p in incoming)) < 1e-3 * total
