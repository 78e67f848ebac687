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
from hepfm.atomic import create, exists, is_local, location, names, remove, write_whole
from hepfm.errors import CampaignError, InputError
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
            differing = campaign.differences(theirs)
            grow = ""
            if {*differing} <= {"n_events", "chunk_events"} and campaign.n_events > theirs.n_events:
                grow = f"make that one larger with `--extend {folder} --n-events {campaign.n_events}`, "
            msg = (
                f"{folder} holds another campaign: {', '.join(differing)} differ. Choose another folder, {grow}or "
                f"repeat that one with `--config {settings}`."
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


def read_campaign(folder: Path) -> Campaign:
    """The campaign that a folder holds.

    Raises:
        CampaignError: it holds none.
        InputError: its settings are damaged.
    """
    if not exists(folder / CAMPAIGN_FILE):
        msg = f"{folder} is not a campaign folder: it has no {CAMPAIGN_FILE}. Give the folder of a campaign."
        raise CampaignError(msg)
    return Campaign.from_toml(folder / CAMPAIGN_FILE)


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


def extend(folder: Path | str, variations: tuple[Variation, ...] = (), *, n_events: int | None = None) -> Campaign:
    """Add variations to a campaign, for the same frozen events, or events; `run` then simulates what is missing.

    Variations that the campaign has already stay as they are, so that an interrupted extension can be repeated;
    one of which no view was made yet may still change, such as the command of a generator that did not work.
    Shards that the campaign ended with, because there were no more events, are made again.

    Args:
        folder: the campaign folder, or its fsspec URL.
        variations: what to add.
        n_events: frozen events in all, afterwards; by default as many as now.

    Returns:
        The larger campaign: the same as if it had had the variations and the events from the start.

    Raises:
        CampaignError: there is no campaign, another process runs it, or it has a variation of the same name
            with other settings.
        InputError: Pythia refuses a setting, the campaign has more events, or its events come from files.
    """
    folder = location(folder)
    read_campaign(folder)
    with locked(folder):
        campaign = read_campaign(folder)
        together = {v.name: v for v in campaign.variations}
        simulated = {record.variation for record in manifest.read(folder)}
        for variation in variations:
            theirs = together.get(variation.name, variation)
            if variation.name in simulated and what_decides(theirs) != what_decides(variation):
                msg = f"{folder} has a variation '{variation.name}' with other settings. Give the new one another name."
                raise CampaignError(msg)
            together[variation.name] = theirs if variation.name in simulated else variation
        n_events = n_events or campaign.n_events
        larger = replace(campaign, variations=tuple(together.values()), n_events=n_events)
        check(larger)
        if n_events != campaign.n_events:
            _check_growth(campaign, n_events, folder)
            blocks, shards = campaign.outgrown(n_events)
            # Killed in between, the campaign is as it was, but for shards that either one makes.
            manifest.forget(folder, shards)
            for path in blocks:
                remove(folder / path)
        write_whole(folder / CAMPAIGN_FILE, larger.to_toml().encode())
        describe(larger, folder)
    return larger


def _check_growth(campaign: Campaign, n_events: int, folder: Path) -> None:
    if campaign.from_files:
        msg = f"{folder}: its events come from files. Make a campaign of all their events, in another folder."
        raise InputError(msg)
    if n_events < campaign.n_events:
        msg = f"{folder}: expected more than its {campaign.n_events} events, got {n_events}. A campaign only grows."
        raise InputError(msg)


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
