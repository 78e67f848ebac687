"""TOML files that people write: campaigns and variations."""

import tomllib
from pathlib import Path
from typing import Any

from hepfm.atomic import open_file
from hepfm.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file cannot be read, or is not TOML; the message says where.
    """
    try:
        with open_file(path) as file:
            return tomllib.load(file)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}."
        raise InputError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not TOML: {error}."
        raise InputError(msg) from error
