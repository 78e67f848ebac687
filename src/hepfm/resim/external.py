"""Shower frozen events with another program: a Les Houches file goes out, a HepMC file comes back."""

import gzip
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepfm.errors import GeneratorError, InputError
from hepfm.resim.hard import HardEvents, write_block
from hepfm.resim.records import read_showered
from hepfm.resim.shower import Showered

_PLACEHOLDERS = ("lhe", "hepmc", "seed", "n_events")
_REQUIRED = ("lhe", "hepmc")
_COMPRESSED = ("", ".gz", ".zst", ".xz", ".bz2")
_SUPERVISOR = Path(__file__).with_name("supervise.py")


def check_command(command: str, owner: str = "external generator") -> list[str]:
    """Check how the command of an external generator is written; its program need not be there.

    Args:
        command: see `shower_externally`.
        owner: what it belongs to, for the message ("variation 'mine'").

    Returns:
        Its words.

    Raises:
        InputError: it cannot be split into words, or its placeholders are not right.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        msg = f"{owner}: command '{command}' cannot be split into words: {error}. Check its quotes."
        raise InputError(msg) from error
    used = re.findall(r"\{(.*?)\}", " ".join(words))
    unknown = [name for name in used if name not in _PLACEHOLDERS]
    if unknown:
        expected = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        msg = f"{owner}: command '{command}': unknown placeholder {{{unknown[0]}}}. Expected {expected}."
        raise InputError(msg)
    missing = [name for name in _REQUIRED if name not in used]
    if missing:
        msg = (
            f"{owner}: command '{command}' does not say {{{missing[0]}}}. "
            "Expected {lhe}, the file to read, and {hepmc}, the file to write."
        )
        raise InputError(msg)
    return words


def check_program(command: str, owner: str = "external generator") -> list[str]:
    """Do what `check_command` does, and check that its program is there: before views are to be made with it.

    Raises:
        InputError: as `check_command`, or there is no such program.
    """
    words = check_command(command, owner)
    if shutil.which(_from_here(words[0])) is None:
        msg = (
            f"{owner}: program '{words[0]}' is not found. Expected a program in PATH or the path of an executable file."
        )
        raise InputError(msg)
    return words


def shower_externally(events: HardEvents, command: str, seed: int) -> Showered:
    """Shower frozen events with an external program.

    The program runs once, without a shell, in a folder of its own that is removed afterwards. Both end with
    this process, whatever ends that. Where it leaves out events, `rows` says which it kept.

    Args:
        events: E frozen events.
        command: program and arguments with `{lhe}`, the Les Houches file to read; `{hepmc}`, the HepMC file
            to write (that name, or with .gz, .zst, .xz or .bz2 behind it); `{seed}` and `{n_events}`.
            Arguments that name a file (with a dot or a slash) are found from where the command was given.
        seed: for the program's random numbers.

    Raises:
        InputError: the command is not right.
        GeneratorError: the program failed, or what it wrote are not these events.
    """
    template = check_program(command)
    with tempfile.TemporaryDirectory(prefix="hepfm-external-") as name:
        folder = Path(name)
        lhe, hepmc = folder / "events.lhe", folder / "events.hepmc"
        _write_plain(lhe, events)
        values = {"lhe": str(lhe), "hepmc": str(hepmc), "seed": str(seed), "n_events": str(events.n_events)}
        words = [re.sub(r"\{(.*?)\}", lambda found: values[found[1]], word) for word in template]
        with _finished([_from_here(word) for word in words], folder):
            written = next((path for s in _COMPRESSED if (path := folder / (hepmc.name + s)).exists()), None)
            if written is None:
                msg = f"external program '{words[0]}' ended well but did not write {{hepmc}}. Check its arguments."
                raise GeneratorError(msg)
            try:
                return read_showered(written, events)
            except InputError as error:
                msg = f"external program '{words[0]}': {error}"
                raise GeneratorError(msg) from error


def _from_here(word: str) -> str:
    """A word that names a file of the folder that the command was given in, as a path that holds anywhere."""
    named = ("/" in word or "." in word) and Path(word).is_file()
    return str(Path(word).absolute()) if named else word


def _write_plain(path: Path, events: HardEvents) -> None:
    packed = path.with_name(path.name + ".gz")
    write_block(packed, events)
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()


@contextmanager
def _finished(words: list[str], folder: Path) -> Iterator[None]:
    """Run a program to its end, in a folder that is deleted afterwards, or when this process is killed."""
    output = folder / "output.log"
    with (
        output.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as supervisor,
    ):
        status = int(next(iter(supervisor.stdout or ()), b"1"))  # it says nothing where it cannot start the program
        if status:
            lines = output.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
            msg = f"external program '{words[0]}' failed with exit status {status}: {last}"
            raise GeneratorError(msg)
        yield
