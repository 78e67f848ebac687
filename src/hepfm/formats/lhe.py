"""Les Houches event files: read strictly, written without loss.

Format: hep-ph/0609017, with the extensions of arXiv:1405.1067. The parsing is pylhe's.
"""

import gzip
import math
import re
import warnings
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import quoteattr

import pylhe

from hepfm.atomic import Opened, open_file, write_whole
from hepfm.errors import InputError

# 17 significant digits bring every float64 back to the last bit.
_LOSSLESS = pylhe.LHEXMLFormat(
    eventinfo="{nparticles} {pid} {weight:.17g} {scale:.17g} {aqed:.17g} {aqcd:.17g}",
    particle="{id} {status} {mother1} {mother2} {color1} {color2} "
    "{px:.17g} {py:.17g} {pz:.17g} {e:.17g} {m:.17g} {lifetime:.17g} {spin:.17g}",
    initinfo="{beamA} {beamB} {energyA:.17g} {energyB:.17g} {PDFgroupA} {PDFgroupB} {PDFsetA} {PDFsetB} "
    "{weightingStrategy} {numProcesses}",
    procinfo="{xSection:.17g} {error:.17g} {unitWeight:.17g} {procId}",
)
# What pylhe, the XML parser and gzip raise on a damaged file.
_DAMAGE = (ValueError, IndexError, KeyError, AttributeError, ParseError, EOFError, zlib.error, StopIteration)


def read_lhe(path: Path) -> tuple[pylhe.LesHouchesEvents, Generator[pylhe.LHEEvent, None, None]]:
    """Open an LHE file, plain or gzipped.

    Returns:
        The file's header and `<init>` block, and its events one by one, each checked.

    Raises:
        InputError: the file is missing, is not LHE, or (while iterating) is truncated or malformed;
            the message names the event, counted from 1.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            file = pylhe.LHEFile.frombuffer(_unpacked(path))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}."
        raise InputError(msg) from error
    except (*_DAMAGE, RuntimeWarning) as error:
        msg = f"{path} is not a Les Houches event file ({error}). Expected <LesHouchesEvents> with an <init> block."
        raise InputError(msg) from error
    # pylhe calls it an iterable; it is a generator, which holds the file open.
    return file, _checked_events(path, cast(Generator[pylhe.LHEEvent, None, None], file.events))


@dataclass(frozen=True)
class LheSummary:
    """What a file says of itself before any event is parsed.

    Attributes:
        n_events: number of `<event>` blocks that begin, whatever they hold.
        from_powheg: written by POWHEG-BOX: the first emission is already there.
        is_merged: made for MLM or CKKW merging (MadGraph's `ickkw`).
        matched_to: the shower that MadGraph5_aMC@NLO subtracted, such as PYTHIA8, in capitals; "" of other events.
    """

    n_events: int
    from_powheg: bool
    is_merged: bool
    matched_to: str


def scan(path: Path) -> LheSummary:
    """Count a file's events and look at its header, without parsing.

    Raises:
        InputError: the file cannot be read.
    """
    header, n_events = [], 0
    try:
        with _unpacked(path) as file:
            for line in _lines_until_damage(file):
                n_events += line.lstrip().startswith((b"<event>", b"<event "))
                if not n_events:
                    header.append(line)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}. Expected an LHE file, plain or gzipped."
        raise InputError(msg) from error
    text = b"".join(header)
    merged = re.search(rb"^\s*[1-9]\s*=\s*ickkw", text, re.MULTILINE)
    shower = re.search(rb"^\s*(\w+)\s*=\s*parton_shower", text, re.MULTILINE)  # of the run card at NLO alone
    matched_to = shower.group(1).decode("ascii", "replace").upper() if shower else ""
    return LheSummary(n_events, b"POWHEG" in text, merged is not None, matched_to)


def write_lhe(path: Path, init: pylhe.LHEInit, events: Iterable[pylhe.LHEEvent]) -> None:
    """Write gzipped LHE, every number to its last bit; the same events give the same bytes."""
    lines = ['<LesHouchesEvents version="3.0">', init.tolhe(lheformat=_LOSSLESS)]
    lines += [_event_text(event) for event in events]
    text = "\n".join([*lines, "</LesHouchesEvents>\n"])
    # No time in the gzip header: the file depends on its events alone.
    write_whole(path, gzip.compress(text.encode(), compresslevel=6, mtime=0))


def _event_text(event: pylhe.LHEEvent) -> str:
    """One event as LHE. pylhe writes weights with five digits, so the weights are written here."""
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in event.attributes.items())
    lines = [f"<event{attributes}>", event.eventinfo.tolhe(lheformat=_LOSSLESS)]
    lines += [particle.tolhe(lheformat=_LOSSLESS) for particle in event.particles]
    if event.weights:
        lines += [
            "<rwgt>",
            *(f"<wgt id={quoteattr(name)}>{value!r}</wgt>" for name, value in event.weights.items()),
            "</rwgt>",
        ]
    return "\n".join([*lines, "</event>"])


def _checked_events(path: Path, events: Generator[pylhe.LHEEvent, None, None]) -> Generator[pylhe.LHEEvent, None, None]:
    with closing(events):
        for number in count(1):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # pylhe only warns when the XML ends early
                    event = next(events, None)
                if event is None:
                    return
                _check(event)
            except (*_DAMAGE, RuntimeWarning) as error:
                msg = f"{path}: event {number} is truncated or malformed ({error}). Repair the file or cut it before."
                raise InputError(msg) from error
            yield event


def _check(event: pylhe.LHEEvent) -> None:
    """Raise ValueError where an event cannot be right, whatever the generator."""
    n = event.eventinfo.nparticles
    if n != len(event.particles):
        msg = f"{n} particles announced, {len(event.particles)} found"
        raise ValueError(msg)
    if sum(p.status == -1 for p in event.particles) != 2:
        msg = "expected two incoming particles"
        raise ValueError(msg)
    for particle in event.particles:
        momentum = (particle.px, particle.py, particle.pz, particle.e, particle.m)
        if not all(map(math.isfinite, (*momentum, particle.lifetime, particle.spin))):
            msg = "a momentum, lifetime or spin is not a finite number"
            raise ValueError(msg)
        if not (0 <= particle.mother1 <= n and 0 <= particle.mother2 <= n):
            msg = f"a particle has mothers {particle.mother1} and {particle.mother2} of {n}"
            raise ValueError(msg)
    info = event.eventinfo
    if not all(map(math.isfinite, (info.weight, info.scale, info.aqed, info.aqcd))):
        msg = "the weight, scale or a coupling is not a finite number"
        raise ValueError(msg)
    sign = {-1: -1.0, 1: 1.0}
    balance = [
        sum(sign.get(p.status, 0.0) * getattr(p, axis) for p in event.particles) for axis in ("px", "py", "pz", "e")
    ]
    incoming = sum(p.e for p in event.particles if p.status == -1)
    if max(map(abs, balance)) > 1e-3 * incoming:  # the same tolerance as Pythia's own check of an event
        msg = "four-momentum is not conserved"
        raise ValueError(msg)


def _unpacked(path: Path) -> Opened | gzip.GzipFile:
    """Open a file's content, unpacked if it is gzipped."""
    file = open_file(path)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    unpacked = gzip.GzipFile(fileobj=file)
    unpacked.myfileobj = file  # type: ignore[assignment] # closed together, as after gzip.open
    return unpacked


def _lines_until_damage(file: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from file
    except (EOFError, zlib.error):
        return
