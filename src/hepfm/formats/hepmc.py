"""HepMC event files, version 2 and 3: read strictly, in order, at constant memory.

Plain or compressed (gz, zst, xz, bz2), whatever the file is called. The file is split into the texts of its
events, `hepmc_text` checks a text, and pyhepmc reads it.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, Self

import numpy as np
import pyhepmc
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.hepmc_text import Listing, check_event, decompressed, expect, find_listing

_CHUNK_BYTES = 1 << 20
_READERS = {3: ("Asciiv3", pyhepmc.io.ReaderAscii), 2: ("IO_GenEvent", pyhepmc.io.ReaderAsciiHepMC2)}
_TO_GEV = {pyhepmc.Units.GEV: 1.0, pyhepmc.Units.MEV: 1e-3}
_TO_MM = {pyhepmc.Units.MM: 1.0, pyhepmc.Units.CM: 10.0}
_NONE = -1
_BUFFER_BYTES = 1 << 16
# For the whole process: what is wrong with a file is said by our own errors, and only once.
pyhepmc.Setup.print_errors = pyhepmc.Setup.print_warnings = False
pyhepmc.Setup.debug_level = 0

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HepmcEvent:
    """One event of P particles, in GeV and mm.

    Attributes:
        index: its place in the file, from 0.
        number: the number that it carries.
        weights: shape (W,), at least one.
        weight_names: as many; `0`, `1`, ... where the file names none.
        cross_section: value and error in pb as known at this event, where the file says so.
        signal_vertex: the vertex of the hard process, -1 where the file does not say.
        pdg_id: shape (P,), as all that follow.
        status: 1 stable, 2 decayed, 4 beam, others at the generator's discretion.
        px: momentum in GeV; likewise `py`, `pz`, `energy` and the generated `mass`.
        x: production vertex in mm, 0 for none; likewise `y`, `z`.
        production: the vertex that a particle comes from, -1 for none. Particles with the same number
            come from the same vertex; the numbers have no other meaning.
        end: the vertex that a particle goes into, -1 for none.
    """

    index: int
    number: int
    weights: _Floats
    weight_names: tuple[str, ...]
    cross_section: tuple[float, float] | None
    signal_vertex: int
    pdg_id: NDArray[np.int32]
    status: NDArray[np.int32]
    px: _Floats
    py: _Floats
    pz: _Floats
    energy: _Floats
    mass: _Floats
    x: _Floats
    y: _Floats
    z: _Floats
    production: _Ints
    end: _Ints

    def children(self, particle: int) -> _Ints:
        """Indices of the particles that come from the vertex that `particle` goes into, ascending."""
        return np.flatnonzero((self.production == self.end[particle]) & (self.production >= 0))

    def parents(self, particle: int) -> _Ints:
        """Indices of the particles that go into the vertex that `particle` comes from, ascending."""
        return np.flatnonzero((self.end == self.production[particle]) & (self.end >= 0))


class HepmcReader:
    """Reads the events of one file in ascending order, going on where the last read ended.

    A worker keeps one open, so that chunk after chunk of a file costs one pass over it. An event that is
    skipped is decompressed but not parsed. To go back, the file is opened again.

    A file that breaks off within an event is refused. One that ends behind an event is taken as it is,
    also without the footer: programs that do not close their file leave none.
    """

    def __init__(self, path: Path) -> None:
        """Read from `path`, which is opened at the first read."""
        self.path = path
        self._stream: IO[bytes] | None = None
        self._damage: tuple[type[Exception], ...] = ()
        self._events: Iterator[tuple[Listing, bytes]] = iter(())
        self._position = 0

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; another read opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[HepmcEvent]:
        """Events `start` to `stop` of the file, counted from 0; fewer where the file ends before.

        Raises:
            InputError: the file is missing, is not HepMC, or (while iterating) is truncated or malformed;
                the message names the event, counted from 1.
        """
        if self._stream is None or start < self._position:
            self._open()
        while stop is None or self._position < stop:
            event = next(self._events, None)
            if event is None:
                return
            self._position += 1
            if self._position > start:
                yield self._parse(*event)

    def count(self) -> int:
        """Number of events, of which only the last is parsed: a file that breaks off shows there.

        Raises:
            InputError: the file is missing, is not HepMC, or ends within an event.
        """
        self._open()
        last = None
        for event in self._events:
            self._position += 1
            last = event
        if last is not None:
            self._parse(*last)
        return self._position

    def _open(self) -> None:
        self.close()
        self._position = 0
        try:
            self._stream, self._damage = decompressed(self.path)
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror or error}."
            raise InputError(msg) from error
        self._events = self._split(self._stream)

    def _split(self, stream: IO[bytes]) -> Iterator[tuple[Listing, bytes]]:
        """The text of each event, and the listing that it is part of; files joined end to end hold several."""
        start = self._next_chunk(stream)
        if find_listing(start) is None:
            self._refuse(" is not a HepMC file. Expected ASCII of HepMC 2 or 3, plain or compressed.")
        texts = self._texts(stream, start)
        listing = find_listing(next(texts))
        for text in texts:
            event, footer, after = text.partition(b"\nHepMC::")
            if listing is not None:
                yield listing, event + b"\n" if footer else event
            listing = find_listing(after) or listing

    def _texts(self, stream: IO[bytes], pending: bytes) -> Iterator[bytes]:
        """What comes before the first event, then each event's text without the `E ` that it begins with."""
        while chunk := self._next_chunk(stream):
            *whole, pending = pending.split(b"\nE ")
            yield from (text + b"\n" for text in whole)
            pending += chunk
        *whole, pending = pending.split(b"\nE ")
        yield from (text + b"\n" for text in whole)
        yield pending  # ends with a newline unless the file breaks off

    def _next_chunk(self, stream: IO[bytes]) -> bytes:
        try:
            return stream.read(_CHUNK_BYTES)
        except self._damage as error:
            self._refuse(f" breaks off at event {self._position + 1} or soon after ({error}). Copy or make it again.")

    def _parse(self, listing: Listing, text: bytes) -> HepmcEvent:
        try:
            return _to_arrays(listing, text, self._position - 1)
        except (ValueError, IndexError, RuntimeError) as error:
            self._refuse(f": event {self._position} is truncated or malformed ({error}). Repair it or cut it off.")

    def _refuse(self, problem: str) -> NoReturn:
        msg = f"{self.path}{problem}"
        raise InputError(msg)


def count_events(path: Path) -> int:
    """Number of events of a HepMC file, counted without parsing all but the last.

    Raises:
        InputError: the file is missing, is not HepMC, or ends within an event.
    """
    with HepmcReader(path) as reader:
        return reader.count()


def read_hepmc(path: Path, start: int = 0, stop: int | None = None) -> Iterator[HepmcEvent]:
    """Events `start` to `stop` of a file; see `HepmcReader.read`."""
    with HepmcReader(path) as reader:
        yield from reader.read(start, stop)


def _to_arrays(listing: Listing, text: bytes, index: int) -> HepmcEvent:
    checked, names = check_event(listing, text)
    event, data = _read_text(listing.version, checked)
    section, named = event.cross_section, "signal_process_vertex" in event.attributes
    signal = int(str(event.attributes["signal_process_vertex"])) if named else 0
    weights = np.array(data.weights if len(data.weights) else [1.0])
    expect(bool(np.isfinite(weights[0])), "its weight is not finite")
    if len(names) != len(weights):
        names = tuple(map(str, range(len(weights))))
    particles, n = data.particles, len(data.vertices)
    columns = np.stack([particles[name] for name in ("px", "py", "pz", "e", "mass")]) * _TO_GEV[data.momentum_unit]
    # Vertices need not come in the order of their numbers.
    row = np.full(n + 1, _NONE)
    row[np.array([-vertex.id for vertex in event.vertices], int)] = np.arange(n)
    links = np.array([data.links1, data.links2], int)
    production, end = np.full((2, len(particles)), _NONE)
    outgoing = links[:, links[0] < 0]
    production[outgoing[1] - 1] = row[-outgoing[0]]
    incoming = links[:, links[0] > 0]
    end[incoming[0] - 1] = row[-incoming[1]]
    positions = _production_vertices(data, production, end) * _TO_MM[data.length_unit]
    expect(bool(np.isfinite(columns).all() and np.isfinite(positions).all()), "a number is not finite")
    px, py, pz, energy, mass = columns
    x, y, z = positions
    return HepmcEvent(
        index=index,
        number=data.event_number,
        weights=weights,
        weight_names=names,
        cross_section=(section.xsec(0), section.xsec_err(0)) if section else None,
        signal_vertex=int(row[-signal]) if -n <= signal < 0 else _NONE,
        pdg_id=particles["pid"].copy(),
        status=particles["status"].copy(),
        px=px,
        py=py,
        pz=pz,
        energy=energy,
        mass=mass,
        x=x,
        y=y,
        z=z,
        production=production,
        end=end,
    )


def _read_text(version: int, text: bytes) -> tuple[pyhepmc.GenEvent, pyhepmc.GenEventData]:
    name, reader = _READERS[version]
    listing = f"HepMC::Version {version}\nHepMC::{name}-START_EVENT_LISTING\n".encode()
    footer = f"HepMC::{name}-END_EVENT_LISTING\n".encode()
    event, data = pyhepmc.GenEvent(), pyhepmc.GenEventData()
    stream = pyhepmc.io.pyiostream(io.BytesIO(listing + text + footer), _BUFFER_BYTES)
    expect(reader(stream).read_event(event), "pyhepmc cannot read it")
    event.write_data(data)
    return event, data


def _production_vertices(data: pyhepmc.GenEventData, production: _Ints, end: _Ints) -> _Floats:
    """Where each particle comes from, shape (3, P), in the file's units.

    As HepMC has it, a vertex at exactly 0 has no position of its own: it lies where the first of its
    incoming particles comes from, and so on back; in the end where the event lies.
    """
    n = len(data.vertices)
    known = np.stack([data.vertices[axis] for axis in "xyzt"], axis=1).any(axis=1)
    before = np.full(n + 1, n)
    through = np.flatnonzero((end >= 0) & (production >= 0))[::-1]
    before[end[through]] = production[through]  # of several, the first particle is assigned last
    before[:-1][known] = np.flatnonzero(known)
    for _ in range(n.bit_length()):  # each time twice as far back
        before = before[before]
    origin = data.event_pos
    positions = np.array([np.append(data.vertices[axis], getattr(origin, axis)) for axis in "xyz"])
    return np.take(positions, before[production], axis=1)
