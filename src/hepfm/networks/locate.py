"""Where a network lies that is asked for by name: a folder, a copy in the package, or the Hub."""

import difflib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hepfm.errors import InputError, StorageError
from hepfm.hub import fetch_file
from hepfm.networks.strict import CONFIG, WEIGHTS
from hepfm.zoo import bundled, folder_of

# Arguments of `from_pretrained` that are about the Hub.
_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")


def locate(name: str | os.PathLike[str], settings: dict[str, Any]) -> Path:
    """Find the folder of a network, fetching it if need be.

    Args:
        name: a folder; or OWNER/NAME, of which there may be a copy in the package.
        settings: arguments of `from_pretrained`; those about the Hub are taken out.

    Returns:
        A folder with config.json and, but for damaged ones, model.safetensors.

    Raises:
        InputError: there is no such network.
        StorageError: the Hub cannot be reached.
    """
    hub = {key: settings.pop(key) for key in _HUB if key in settings}
    folder = Path(name)
    subfolder = hub.get("subfolder") or ""
    if folder.is_dir():
        return folder / subfolder
    text = os.fspath(name)
    # A revision names a state of the Hub's, which a copy need not be.
    if text in bundled() and hub.get("revision") in (None, "main") and not hub.get("force_download"):
        return folder_of(text)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        close = difflib.get_close_matches(text, bundled(), n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        msg = f"{text}: no such folder; expected one with {CONFIG}, or OWNER/NAME of the Hub.{meant}"
        raise InputError(msg)
    return _fetch(text, hub)


def _fetch(repo: str, hub: dict[str, Any]) -> Path:
    given = {key: value for key, value in hub.items() if value is not None}
    try:
        config = fetch_file(repo, CONFIG, kind="model", **given)
    except (InputError, StorageError) as error:
        msg = f"{str(error).rstrip('.')}. In the package: {', '.join(bundled())}."
        raise type(error)(msg) from error
    with suppress(InputError):  # a folder without weights is explained by whoever checks it
        fetch_file(repo, WEIGHTS, kind="model", **given)
    return config.parent
