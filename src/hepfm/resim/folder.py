"""The campaign folder: made, checked, extended and locked."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from hepfm import manifest
from hepfm.atomic import create, exists, is_local, location, names, write_whole
from hepfm.errors import CampaignError
from hepfm.resim.campaign import Campaign, check, check_files, what_decides
from hepfm.resim.lease import lease
from hepfm.resim.variations import Variation
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE

CAMPAIGN_FILE = "campaign.toml"
_LOCK = "running.json"
_VERSIONED = ("hepfm", "pythia8mc", "fastjet", "numpy", "numba", "awkward", "h5py", "pylhe")


def prepare(campaign: Campaign, folder: Path) -> None:
    """Make the campaign folder, or check that it holds this very campaign; `describe` follows, in the folder's lock.

    Of several processes that begin at once one makes the folder, and the others find it.

    Raises:
        CampaignError: the folder holds something else.
        HepfmError: the folder cannot be written, or the campaign makes no sense.
    """
    settings = folder / CAMPAIGN_FILE
    if exists(settings):
        theirs = Campaign.from_toml(settings)
        if theirs.digest != campaign.digest:
            differing = ", ".join(campaign.differences(theirs))
            msg = (
                f"{folder} holds another campaign: {differing} differ. Choose another folder, or repeat that one "
                f"with `--config {settings}`."
            )
            raise CampaignError(msg)
        return
    check(campaign)
    check_files(campaign)
    if (is_local(folder) and folder.is_file()) or not all(map(_is_unfinished, names(folder))):
        msg = f"{folder} exists and is not a campaign folder. Choose another name."
        raise CampaignError(msg)
    try:
        # Never replaced while there may be somebody who locks it.
        create(settings, campaign.to_toml().encode())
    except FileExistsError:
        prepare(campaign, folder)


def describe(campaign: Campaign, folder: Path) -> None:
    """Write what readers of the folder go by, unless it is there; its lock must be held.

    Raises:
        StorageError: it cannot be written.
    """
    if manifest.read_header(folder).get("digest") == campaign.digest:
        return
    header = {
        "format_version": FORMAT_VERSION,
        "digest": campaign.digest,
        "n_events": campaign.n_events,
        "seed": campaign.seed,
        "detector": campaign.detector,
        "processes": [p.name for p in campaign.processes],
        "variations": [v.name for v in campaign.variations],
        "shares": {v.name: {"keeps": v.kept, "of": v.base} for v in campaign.variations if not v.is_independent},
        "n_shards": campaign.n_shards,
        "split": SPLIT_RULE,
        "versions": {name: version(name) for name in _VERSIONED} | {"python": platform.python_version()},
    }
    write_whole(folder / manifest.HEADER, (json.dumps(header, indent=2) + "\n").encode())


def extend(folder: Path | str, variations: tuple[Variation, ...]) -> Campaign:
    """Add variations to a campaign, for the same frozen events; `run` then simulates what is missing.

    Variations that the campaign has already stay as they are, so that an interrupted extension can be repeated;
    one of which no view was made yet may still change, such as the command of a generator that did not work.

    Returns:
        The larger campaign: the same as if it had had the variations from the start.

    Raises:
        CampaignError: there is no campaign, another process runs it, or it has a variation of the same name
            with other settings.
        InputError: Pythia refuses a setting.
    """
    folder = location(folder)
    if not exists(folder / CAMPAIGN_FILE):
        msg = f"{folder} is not a campaign folder: it has no {CAMPAIGN_FILE}. Give the folder of a campaign."
        raise CampaignError(msg)
    with locked(folder):
        campaign = Campaign.from_toml(folder / CAMPAIGN_FILE)
        together = {v.name: v for v in campaign.variations}
        simulated = {record.variation for record in manifest.read(folder)}
        for variation in variations:
            theirs = together.get(variation.name, variation)
            if variation.name in simulated and what_decides(theirs) != what_decides(variation):
                msg = f"{folder} has a variation '{variation.name}' with other settings. Give the new one another name."
                raise CampaignError(msg)
            together[variation.name] = theirs if variation.name in simulated else variation
        larger = replace(campaign, variations=tuple(together.values()))
        check(larger)
        write_whole(folder / CAMPAIGN_FILE, larger.to_toml().encode())
        describe(larger, folder)
    return larger


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a campaign folder to this process.

    The lock ends with the process, however it ends; in an object store some 15 s after that.

    Raises:
        CampaignError: another process has the folder.
        StorageError: the store cannot be reached.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_flock(folder / CAMPAIGN_FILE) if is_local(folder) else lease(folder / _LOCK))
        except BlockingIOError as error:
            msg = f"another process is running the campaign in {folder}. Wait for it, or choose another folder."
            raise CampaignError(msg) from error
        yield


def sweep(folder: Path) -> None:
    """Delete the temporary files of processes that were killed while they wrote; an object store has none."""
    if is_local(folder):
        for path in folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def _flock(path: Path) -> Iterator[None]:
    while True:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have replaced the file: a lock of the old one keeps nobody out.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _is_unfinished(name: str) -> bool:
    """Whether a file is what a run leaves that was killed while it made its folder."""
    return name == manifest.HEADER or name.endswith(".tmp")
