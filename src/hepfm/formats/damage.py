"""Files that others wrote: open them, and turn what a library raises over a damaged one into one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import uproot

from hepfm.errors import HepfmError, InputError


@contextmanager
def clear_errors(where: str) -> Iterator[None]:
    """Turn whatever a library raises in here into one line that begins with `where`.

    Of damaged bytes anything may come: KeyError, struct.error, zlib.error, MemoryError, ... hepfm's own errors are
    clear already, and pass.

    Raises:
        InputError: a library failed.
    """
    try:
        yield
    except HepfmError:
        raise
    except Exception as error:
        lines = str(error.args[0] if len(error.args) == 1 else error).strip().splitlines()
        msg = f"{where} ({lines[0] if lines else type(error).__name__})"
        raise InputError(msg) from error


@contextmanager
def opened_hdf5(path: Path | str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        InputError: it does not exist, is cut off, damaged or no HDF5 file; so is what reading from it then raises.
    """
    _must_exist(path)
    with clear_errors(f"{path}: damaged, cut off or no HDF5 file"), h5py.File(path, "r") as file:
        yield file


@contextmanager
def _classes_forgotten() -> Iterator[None]:
    """Forget what uproot learns of classes from a file: a damaged one's would be applied to every file after it."""
    classes = dict(uproot.classes)
    versions = [(c.known_versions, dict(c.known_versions)) for c in classes.values() if hasattr(c, "known_versions")]
    try:
        yield
    finally:
        uproot.classes.clear()
        uproot.classes.update(classes)
        for known, before in versions:
            known.clear()
            known.update(before)


@contextmanager
def opened_root(path: Path | str) -> Iterator[uproot.ReadOnlyDirectory]:
    """Open a ROOT file for reading.

    Raises:
        InputError: it does not exist, is cut off, damaged or no ROOT file; so is what reading from it then raises.
    """
    _must_exist(path)
    with clear_errors(f"{path}: damaged, cut off or no ROOT file"), _classes_forgotten(), uproot.open(path) as file:
        expected, size = int(file.file.fEND), Path(path).stat().st_size
        if size < expected:
            msg = f"{path}: cut off: it has {size} bytes, but should have {expected}"
            raise InputError(msg)
        yield file


def _must_exist(path: Path | str) -> None:
    if not Path(path).is_file():
        msg = f"{path}: no such file"
        raise InputError(msg)
