"""A campaign: everything that was asked for, resolved, and how it divides into tasks."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.hdf5 import file_digest
from hepfm.formats.lhe import scan
from hepfm.formats.toml import read_toml
from hepfm.resim.clustering import JetSelection
from hepfm.resim.detector import DETECTORS
from hepfm.resim.generator import Beams, check_settings
from hepfm.resim.processes import FILES, Process, resolve_processes
from hepfm.resim.variations import Variation, resolve_variations, variation_from
from hepfm.schema import JET_CLASSES, unknown_name

_BLOCK_EVENTS = 1000
_MAX_EVENTS = 10**15
_MAX_SEED = 2**63 - 1
_BELOW_SCALUP = ("SpaceShower:pTmaxMatch = 1", "TimeShower:pTmaxMatch = 1")
_MERGED = "the file was made for multi-jet merging, which is not applied: samples of different multiplicity overlap."
_FROM_POWHEG = "POWHEG events are showered from SCALUP down, without POWHEG's own veto on harder emissions."


@dataclass(frozen=True)
class Campaign:
    """What to simulate. Two campaigns that are equal give the same dataset, bit for bit.

    Attributes:
        n_events: frozen events in all, shared equally between processes (files: in their order).
        processes: where the frozen events come from.
        variations: what each is simulated under; a view's number is its place in this list.
        seed: every random number derives from it.
        detector: name of the detector, see `hepfm.resim.detector.DETECTORS`.
        selection: which jets are kept.
        match_radius: largest distance between a jet and the frozen particle it comes from.
        beams: the beams of events that Pythia generates; files bring their own.
        chunk_events: events a task; decides on the size of the shards, never on their contents.
    """

    n_events: int
    processes: tuple[Process, ...]
    variations: tuple[Variation, ...]
    seed: int
    detector: str
    selection: JetSelection
    match_radius: float
    beams: Beams = field(default_factory=Beams)
    chunk_events: int = _BLOCK_EVENTS

    @property
    def from_files(self) -> bool:
        """Whether the frozen events come from Les Houches files."""
        return self.processes[0].lhe is not None

    @property
    def digest(self) -> str:
        """sha256 over all that decides on the dataset's contents and its division into shards."""
        return _digest(self._settings())

    @property
    def frozen_digest(self) -> str:
        """sha256 over all but the list of variations: campaigns that share it share their frozen events."""
        settings = {name: value for name, value in self._settings().items() if name != "variations"}
        return _digest(settings)

    def _settings(self) -> dict[str, Any]:
        """Everything but what only people read: descriptions, and where a file of known contents lies."""
        settings = asdict(self)
        for table in (*settings["processes"], *settings["variations"]):
            for key in ("description", "citation", "note", "lhe"):
                table.pop(key, None)
        return settings

    def differences(self, other: Self) -> list[str]:
        """Names of the settings in which two campaigns differ."""
        ours, theirs = self._settings(), other._settings()
        return [name for name in ours if ours[name] != theirs[name]]

    def events_of(self, process: int) -> int:
        """Number of events of one process."""
        if self.from_files:
            before = sum(p.n_available or 0 for p in self.processes[:process])
            return max(0, min(self.processes[process].n_available or 0, self.n_events - before))
        return len(range(process, self.n_events, len(self.processes)))

    def event_ids(self, process: int, start: int, stop: int) -> NDArray[np.int64]:
        """Ids of the events `start` to `stop` of one process.

        Processes take turns, so that an event keeps its id when `n_events` grows; files follow one another.
        """
        if self.from_files:
            return sum(p.n_available or 0 for p in self.processes[:process]) + np.arange(start, stop)
        return process + np.arange(start, stop) * len(self.processes)

    def chunks(self) -> Iterator["Chunk"]:
        """The campaign's events in chunks, processes taking turns."""
        number = 0
        for start in range(0, max(map(self.events_of, range(len(self.processes)))), self.chunk_events):
            for process in range(len(self.processes)):
                stop = min(start + self.chunk_events, self.events_of(process))
                if start < stop:
                    yield Chunk(number, process, start, stop)
                    number += 1

    def tasks(self) -> Iterator["Task"]:
        """All tasks, each a chunk under a variation; slow variations, last in the list, start first."""
        for chunk in self.chunks():
            for view in reversed(range(len(self.variations))):
                yield Task(chunk, view)

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        chunks = sum(math.ceil(self.events_of(p) / self.chunk_events) for p in range(len(self.processes)))
        return chunks * len(self.variations)

    def shard_path(self, task: "Task") -> str:
        """Path of a task's shard, relative to the campaign folder."""
        chunk = task.chunk
        name = self.processes[chunk.process].name
        return f"shards/{self.variations[task.view].name}/{name}-{chunk.start // self.chunk_events:06d}.h5"

    def block_path(self, process: int, block: int) -> str:
        """Path of a block of frozen events, relative to the campaign folder."""
        return f"hard/{self.processes[process].name}-{block:06d}.lhe.gz"

    @property
    def notes(self) -> list[str]:
        """What the user should know before running."""
        return [f"{p.name}: {p.note}" for p in self.processes if p.note]

    @property
    def block_events(self) -> int:
        """Frozen events a file; fixed, so that they do not depend on how the work is divided."""
        return _BLOCK_EVENTS

    def to_toml(self) -> str:
        """The campaign as TOML, which `from_toml` reads back."""
        return tomli_w.dumps(_without_none(asdict(self)), multiline_strings=False)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a campaign, as written into a campaign folder.

        Raises:
            InputError: the file cannot be read, or a setting is missing, unknown or wrong.
        """
        tables = read_toml(path)
        for name in tables:
            if name not in {f.name for f in fields(cls)}:
                raise InputError(f"{path}: {unknown_name('setting', name, [f.name for f in fields(cls)])}")  # noqa: EM102
        try:
            tables["processes"] = tuple(_process_from(table) for table in tables["processes"])
            tables["variations"] = tuple(variation_from(table, str(path)) for table in tables["variations"])
            tables["selection"] = JetSelection(**tables["selection"])
            tables["beams"] = Beams(**tables["beams"])
            campaign = cls(**tables)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"{path} is not a campaign: {error}. `hepfm-data resim` writes a complete one into its folder."
            raise InputError(msg) from error
        check(campaign)
        return campaign


@dataclass(frozen=True)
class Chunk:
    """Some consecutive events of one process: `start` to `stop` in its own count, `number` in the campaign's."""

    number: int
    process: int
    start: int
    stop: int


@dataclass(frozen=True)
class Task:
    """A chunk under the variation number `view`; its result is one shard."""

    chunk: Chunk
    view: int


def plan(
    n_events: int | None = None,
    variations: str = "8",
    processes: str = "rs3l",
    *,
    lhe: Sequence[Path | str] = (),
    detector: str = "cms",
    seed: int = 1,
    chunk_events: int | None = None,
    jet_pt: tuple[float | None, float | None] = (None, None),
) -> Campaign:
    """Resolve what a user asks for into a campaign, and check all of it.

    Args:
        n_events: frozen events in all; by default 10,000, or all events of the files.
        variations: a number of the default list, names, or TOML files, separated by commas.
        processes: `rs3l`, `jetclass`, or names of the catalogue; not used with `lhe`.
        lhe: Les Houches files that hold the frozen events.
        detector: `none`, `cms` or `jetclass`.
        seed: of all random numbers.
        chunk_events: events a task; by default chosen from `n_events`.
        jet_pt: least and largest jet pt in GeV, instead of the preset's.

    Raises:
        InputError: something in it is unknown, out of range or unreadable; the message says what to do.
    """
    if lhe:
        preset = FILES
        sources = _files([Path(path) for path in lhe])
        available = sum(p.n_available or 0 for p in sources)
        n_events = available if n_events is None else min(n_events, available)
    else:
        sources, preset = resolve_processes(processes)
        pt_hat = f"PhaseSpace:pTHatMin = {preset.pt_hat_min:g}"
        sources = tuple(Process(**{**vars(p), "settings": (*p.settings, pt_hat)}) for p in sources)
        n_events = 10_000 if n_events is None else n_events
    low, high = jet_pt
    selection = {
        **asdict(preset.selection),
        **({} if low is None else {"pt_min": low}),
        **({} if high is None else {"pt_max": high}),
    }
    campaign = Campaign(
        n_events=n_events,
        processes=sources,
        variations=resolve_variations(variations),
        seed=seed,
        detector=detector,
        selection=JetSelection(**selection),
        match_radius=preset.match_radius,
        chunk_events=_chunk_events(n_events) if chunk_events is None else chunk_events,
    )
    check(campaign)
    return campaign


def check(campaign: Campaign) -> None:
    """Find what is wrong with a campaign before its first event.

    Raises:
        InputError: a number out of range, an unknown detector, or a setting that Pythia refuses.
    """
    for name, value, high in (
        ("n_events", campaign.n_events, _MAX_EVENTS),
        ("chunk_events", campaign.chunk_events, _MAX_EVENTS),
        ("seed", campaign.seed, _MAX_SEED),
    ):
        low = 0 if name == "seed" else 1
        if not isinstance(value, int) or not low <= value <= high:
            msg = f"{name} is {value!r}: expected a whole number from {low} to {high:g}."
            raise InputError(msg)
    if not campaign.processes or not campaign.variations:
        msg = "a campaign needs at least one process and one variation."
        raise InputError(msg)
    if campaign.detector not in DETECTORS:
        raise InputError(unknown_name("detector", str(campaign.detector), DETECTORS))
    for name, number in (
        ("match_radius", campaign.match_radius),
        ("energy_a of the beams", campaign.beams.energy_a),
        ("energy_b of the beams", campaign.beams.energy_b),
    ):
        if not isinstance(number, int | float) or not 0 < number < math.inf:
            msg = f"{name} is {number!r}: expected a positive number."
            raise InputError(msg)
    _check_names("process", [p.name for p in campaign.processes])
    _check_names("variation", [v.name for v in campaign.variations])
    for process in campaign.processes:
        if process.label is not None and process.label not in JET_CLASSES:
            raise InputError(unknown_name(f"label of process '{process.name}'", str(process.label), JET_CLASSES))
        check_settings((*process.settings, *process.shower_settings), f"process '{process.name}'")
    for variation in campaign.variations:
        check_settings(variation.settings, f"variation '{variation.name}'")


def check_files(campaign: Campaign) -> None:
    """Check that a campaign's Les Houches files are those that it was planned with.

    Not needed once their events are frozen in the campaign folder.

    Raises:
        InputError: a file cannot be read, or has changed.
    """
    for process in campaign.processes:
        if process.lhe is not None and _sha256(Path(process.lhe)) != process.sha256:
            msg = f"{process.lhe} is not the file that the campaign was made from. Give that file again."
            raise InputError(msg)


def _check_names(kind: str, names: list[str]) -> None:
    """Shards are named after processes and variations, whose names are also columns of ASCII text."""
    for name in names:
        if not (name.isascii() and name.isprintable()) or "/" in name:
            msg = f"{kind} '{name}': a name holds ASCII characters only, and no '/'. Rename it (or the file)."
            raise InputError(msg)
        if names.count(name) > 1:
            msg = f"{kind} '{name}' is there twice. Rename one: shards are named after it."
            raise InputError(msg)


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _chunk_events(n_events: int) -> int:
    """Tasks of some seconds, yet enough of them to keep the workers of a small campaign busy."""
    return min(_BLOCK_EVENTS, max(50, n_events // 16))


def _files(paths: list[Path]) -> tuple[Process, ...]:
    sources = []
    for path in paths:
        name = path.name.removesuffix(".gz").removesuffix(".lhe")
        summary = scan(path)
        if summary.n_events == 0:
            msg = f"{path} holds no events. Expected a Les Houches file, plain or gzipped."
            raise InputError(msg)
        notes = {_MERGED: summary.is_merged, _FROM_POWHEG: summary.from_powheg}
        sources.append(
            Process(
                name,
                # The hardest emission of a POWHEG event is its own: the shower must start below it.
                shower_settings=_BELOW_SCALUP if summary.from_powheg else (),
                lhe=str(path.resolve()),
                n_available=summary.n_events,
                sha256=_sha256(path),
                description=f"events of {path.name}",
                note=" ".join(note for note, applies in notes.items() if applies),
            )
        )
    names = [p.name for p in sources]
    if len(set(names)) < len(names):
        msg = f"two files have the same name: {', '.join(names)}. Rename one: it becomes the process' name."
        raise InputError(msg)
    return tuple(sources)


def _process_from(table: dict[str, Any]) -> Process:
    """A process from a TOML table, whose lists are tuples here."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    return Process(**values)


def _sha256(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}."
        raise InputError(msg) from error


def _without_none(value: Any) -> Any:  # noqa: ANN401 (what TOML can hold)
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value
