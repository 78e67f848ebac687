"""The text of HepMC files: decompressed, and checked before pyhepmc may read it.

pyhepmc takes lines that are damaged for others, lines that are missing for vertices that never were, and
numbers of particles that do not exist for places in memory, where it ends the process. Here every line has
to be one of the format's, and every number to lead somewhere. pyhepmc gets the lines that are needed.

Formats: arXiv:1912.08005 (Asciiv3 of HepMC 3) and the user manual of HepMC 2 (IO_GenEvent).
"""

import bz2
import gzip
import lzma
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

_VERSIONS = {b"Asciiv3": 3, b"IO_GenEvent": 2}
_INT = rb"-?(?:\d{1,9}|[01]\d{9}|20\d{8})"  # what fits 32 bits; nuclei have ids of ten digits
_REAL = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WORD = rb"[!-~]+"
_UNITS = rb"U (?:GEV|MEV) (?:MM|CM)"
# Lines by version; those in the group go to pyhepmc. {i} is a whole number, {r} a real one, {w} any word.
_LINES = {
    3: rb"""(E {i} \d{1,9} \d{1,9}(?: @(?: {r}){4})?|{u}|W(?: {r})*|A 0 signal_process_vertex {i}
        |A 0 GenCrossSection {r} {r}(?: {r})*|V -\d{1,9} {i} \[\d{1,9}(?:,\d{1,9})*\](?: @(?: {r}){4})?
        |P \d{1,9} {i} {i}(?: {r}){5} {i}) ?|A (?!0 (?:GenCrossSection|signal_process_vertex) ).*|""",
    2: rb"""(E {i}(?: {w}){5} {i} \d{1,9} {i} {i}(?: {w})+|{u}|C {r} {r}|V {i} {i}(?: {r}){4}(?: \d{1,9}){3}(?: {r})*
        |P {i} {i}(?: {r}){5} {i} {w} {w} {i} \d{1,9}(?: {i})*) ?|[NFH] .*|""",
}


def _compiled(lines: bytes) -> re.Pattern[bytes]:
    for name, pattern in ((b"{i}", _INT), (b"{r}", _REAL), (b"{w}", _WORD), (b"{u}", _UNITS)):
        lines = lines.replace(name, pattern)
    return re.compile(re.sub(rb"\n\s+", b"", lines))


_GRAMMAR = {version: _compiled(lines) for version, lines in _LINES.items()}


@dataclass(frozen=True)
class Listing:
    """What a file says before its events: version of the format, names of the weights (HepMC 3)."""

    version: int
    weight_names: tuple[str, ...]


def find_listing(text: bytes) -> Listing | None:
    """The first listing that starts in some text, if any."""
    start = re.search(rb"HepMC::(Asciiv3|IO_GenEvent)-START_EVENT_LISTING", text)
    if start is None:
        return None
    names = re.search(rb"^W (.*)$", text[start.end() :], re.MULTILINE)
    # HepMC 3 joins the names by line breaks, which it writes as \| for they would end the line; pyhepmc
    # takes a space within a name for the end of the name.
    unescaped = names[1].replace(rb"\|", b"\n").replace(rb"\\", b"\\").decode(errors="replace") if names else ""
    return Listing(_VERSIONS[start[1]], tuple(unescaped.split("\n")) if unescaped else ())


def check_event(listing: Listing, text: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Check the text of one event, which starts behind the `E ` that opens it and ends with its last line.

    Returns:
        The text for pyhepmc, from its `E ` to its last line, and the names of the weights.

    Raises:
        ValueError, IndexError: the text is not a complete event.
    """
    expect(text.endswith(b"\n"), "its last line breaks off")
    kept, names = [], listing.weight_names
    for line in (b"E " + text).split(b"\n"):
        match = _GRAMMAR[listing.version].fullmatch(line)
        if match is None:
            msg = f"{line[:120].decode('ascii', 'replace')!r} is no line of HepMC {listing.version}"
            raise ValueError(msg)
        if match[1]:
            kept.append(match[1])
        elif line.startswith(b"N "):
            names = tuple(name.decode(errors="replace") for name in re.findall(rb'"([^"]*)"', line))
    checked = b"\n".join(kept) + b"\n"
    (_check_3 if listing.version == 3 else _check_2)(kept[0].split(b" "), checked)
    return checked, names


def _check_3(header: list[bytes], text: bytes) -> None:
    """HepMC 3: a particle names the vertex it comes from, or the one particle; a vertex names what goes in."""
    n_vertices, n = int(header[2]), int(header[3])
    particles = np.array(re.findall(rb"\nP (\d+) (-?\d+)", text)).reshape(-1, 2).astype(int)
    expect(len(particles) == n, f"{n} particles announced, {len(particles)} found")
    expect(bool((particles[:, 0] == np.arange(1, n + 1)).all()), "particles are not numbered from 1")
    origins = np.unique(particles[:, 1])
    mothers, ids = origins[origins > 0].tolist(), origins[origins < 0].tolist()
    vertices = sorted((int(number), into) for number, into in re.findall(rb"\nV (-\d+) \S+ \[(.*)\]", text))
    expect([number for number, _ in vertices] == ids, "its vertices and what comes from them do not agree")
    expect(len(mothers) + len(ids) == n_vertices, f"{n_vertices} vertices announced, {len(mothers) + len(ids)} found")
    expect(not ids or ids[0] >= -n_vertices, "vertices are not numbered from -1")
    decayed = mothers + [int(particle) for _, into in vertices for particle in into.split(b",")]
    expect(not decayed or 1 <= min(decayed) <= max(decayed) <= n, "a particle that goes into a vertex does not exist")
    expect(len(set(decayed)) == len(decayed), "a particle goes into two vertices")
    expect(bool((particles[:, 0] != particles[:, 1]).all()), "a particle comes from itself")


def _check_2(header: list[bytes], text: bytes) -> None:
    """HepMC 2: a vertex is followed by its particles, orphans that go in and all that come out."""
    n_vertices, n_random = int(header[8]), int(header[11])
    n_weights = int(header[12 + n_random])
    expect(min(n_random, n_weights) >= 0 and len(header) == 13 + n_random + n_weights, "weights are missing")
    np.array(header[13 + n_random :], float)
    before, *blocks = text.split(b"\nV ")
    expect(b"\nP " not in before, "a particle comes before the first vertex")
    expect(len(blocks) == n_vertices, f"{n_vertices} vertices announced, {len(blocks)} found")
    vertices, particles, ends = set(), [], set()
    for block in blocks:
        number, *rest = block.partition(b"\n")[0].split(b" ")
        orphans, outgoing, n_weights, n_fields = int(rest[5]), int(rest[6]), int(rest[7]), len(rest)
        expect(n_fields == 8 + n_weights, "weights of a vertex are missing")
        found = re.findall(rb"\nP (\S+)(?: \S+){9} (\S+)", block)
        into = [end for _, end in found]
        n_orphans = into.count(number)
        # Pythia 8 is known to announce too few (HepMC3, ReaderAsciiHepMC2.cc).
        expect(n_orphans >= orphans and len(found) - n_orphans >= outgoing, "particles of a vertex are missing")
        vertices.add(number)
        particles += [particle for particle, _ in found]
        ends.update(into)
    expect(
        len(vertices) == n_vertices and all(number.startswith(b"-") for number in vertices), "vertices are not numbered"
    )
    expect(len(set(particles)) == len(particles), "particles have the same number")
    ends.discard(b"0")
    expect(ends <= vertices, "a particle's vertex does not exist")
    expect(vertices <= ends, "a vertex has no particle that goes in, which pyhepmc cannot read")


def expect(condition: bool, otherwise: str) -> None:
    """Raise ValueError with `otherwise` unless the condition holds."""
    if not condition:
        raise ValueError(otherwise)


def decompressed(path: Path) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    """The file's text as a stream, by what the file holds and not by its name, and what it raises on damage."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path)), (OSError, EOFError, zlib.error)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return cast(IO[bytes], zstd.open(path)), (OSError, EOFError, zstd.ZstdError)
    if magic.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], lzma.open(path)), (OSError, EOFError, lzma.LZMAError)
    if magic.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(path)), (OSError, EOFError, ValueError)
    return path.open("rb"), (OSError,)
