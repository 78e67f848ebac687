"""A campaign: everything that was asked for, resolved, and how it divides into tasks."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hepfm.atomic import file_digest
from hepfm.errors import InputError
from hepfm.formats.toml import read_toml
from hepfm.resim.clustering import JetSelection
from hepfm.resim.detector import DETECTORS
from hepfm.resim.external import check_command
from hepfm.resim.generator import Beams, check_hadronisation, check_settings
from hepfm.resim.processes import Process
from hepfm.resim.variations import FREEZE_POINTS, Variation, variation_from
from hepfm.schema import JET_CLASSES, unknown_name

BLOCK_EVENTS = 1000
"""Frozen events a file; fixed, so that they do not depend on how the work is divided."""
_MAX_EVENTS = 10**15
_MAX_SEED = 2**63 - 1
_T = TypeVar("_T")
# What the fields of a campaign's parts are in TOML, where None is left out.
_IN_TOML: dict[Any, tuple[Any, str]] = {
    **dict.fromkeys((int, int | None), (int, "a whole number")),
    **dict.fromkeys((str, str | None), (str, "text")),
    float: (int | float, "a number"),
    tuple[str, ...]: (list, "a list of texts"),
}


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
        chunk_events: events a task; decides on the size of the shards, and not on their contents, but for generators of
            somebody else, which have one seed a task.
    """

    n_events: int
    processes: tuple[Process, ...]
    variations: tuple[Variation, ...]
    seed: int
    detector: str
    selection: JetSelection
    match_radius: float
    beams: Beams = field(default_factory=Beams)
    chunk_events: int = BLOCK_EVENTS

    @property
    def from_files(self) -> bool:
        """Whether the events come from files, Les Houches or HepMC."""
        return self.processes[0].n_available is not None

    @property
    def is_finished(self) -> bool:
        """Whether the events come with their hadrons, from HepMC files."""
        return self.processes[0].hepmc is not None

    @property
    def digest(self) -> str:
        """sha256 over all that decides on the dataset's contents and its division into shards."""
        return _digest(self._settings())

    @property
    def frozen_digest(self) -> str:
        """sha256 over what decides on an event: campaigns that share it share the frozen events that both have."""
        sizes = ("variations", "n_events", "chunk_events")
        return _digest({name: value for name, value in self._settings().items() if name not in sizes})

    def _settings(self) -> dict[str, Any]:
        """Everything that decides on the dataset; of processes and variations, what is not as by default."""
        settings = _typed(self) | {"selection": _typed(self.selection), "beams": _typed(self.beams)}
        settings["processes"] = [what_decides(p) for p in self.processes]
        settings["variations"] = [what_decides(v) for v in self.variations]
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

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The views that share a shower (or hadrons), by number; each a task for every chunk."""
        groups: dict[int, list[int]] = {}
        for view in range(len(self.variations)):
            groups.setdefault(self.root_of(view), []).append(view)
        return tuple(tuple(views) for _, views in sorted(groups.items()))

    def base_of(self, view: int) -> int | None:
        """Number of the view whose shower or hadrons a view keeps; None if it starts from the hard process."""
        variation = self.variations[view]
        if variation.is_independent:
            return None
        return [v.name for v in self.variations].index(variation.base)

    def root_of(self, view: int) -> int:
        """Number of the view, simulated from the hard process on, that a view keeps something of in the end."""
        base = self.base_of(view)
        return view if base is None else self.root_of(base)

    def settings_of(self, view: int) -> tuple[str, ...]:
        """Pythia settings of a view, with those of the shower that it keeps."""
        base = self.base_of(view)
        return (*(self.settings_of(base) if base is not None else ()), *self.variations[view].settings)

    def tasks(self) -> Iterator["Task"]:
        """All tasks: each chunk under each group; slow variations, last in the list, start first."""
        for chunk in self.chunks():
            for views in reversed(self.groups):
                yield Task(chunk, views)

    @property
    def n_shards(self) -> int:
        """How many shards there are: one a chunk and variation."""
        chunks = sum(math.ceil(self.events_of(p) / self.chunk_events) for p in range(len(self.processes)))
        return chunks * len(self.variations)

    def shard_path(self, chunk: "Chunk", view: int) -> str:
        """Path of the shard of a chunk under a variation, relative to the campaign folder."""
        name = self.processes[chunk.process].name
        return f"shards/{self.variations[view].name}/{name}-{chunk.start // self.chunk_events:06d}.h5"

    def block_path(self, process: int, block: int) -> str:
        """Path of a block of frozen events, relative to the campaign folder."""
        return f"hard/{self.processes[process].name}-{block:06d}.lhe.gz"

    def blocks_of(self, chunk: "Chunk") -> dict[str, int]:
        """Paths and numbers of the blocks that hold a chunk's frozen events; at least that of its start."""
        size, last = BLOCK_EVENTS, max(chunk.start, chunk.stop - 1)
        return {self.block_path(chunk.process, b): b for b in range(chunk.start // size, last // size + 1)}

    def events_of_block(self, process: int, block: int) -> range:
        """The events that a block of frozen events is made of, in the count of their process."""
        start = block * BLOCK_EVENTS
        return range(start, min(start + BLOCK_EVENTS, self.events_of(process)))

    def outgrown(self, n_events: int) -> tuple[list[str], list[str]]:
        """What this campaign of Pythia's events ends with, and a larger one has more of.

        Args:
            n_events: of the larger campaign.

        Returns:
            The paths of the blocks of frozen events that it fills up, and of the shards that it fills up or that were
            made while such a block was smaller: the estimate of a cross-section is of its whole block.
        """
        larger = replace(self, n_events=n_events)
        ends = [(p, self.events_of(p)) for p in range(len(self.processes)) if larger.events_of(p) > self.events_of(p)]
        blocks = [self.block_path(process, end // BLOCK_EVENTS) for process, end in ends if end % BLOCK_EVENTS]
        kept = {process: end - max(end % BLOCK_EVENTS, end % self.chunk_events) for process, end in ends}
        chunks = [chunk for chunk in self.chunks() if chunk.stop > kept.get(chunk.process, chunk.stop)]
        return blocks, [self.shard_path(chunk, view) for chunk in chunks for view in range(len(self.variations))]

    @property
    def notes(self) -> list[str]:
        """What the user should know before running."""
        return [f"{p.name}: {p.note}" for p in self.processes if p.note]

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
            _check_types(cls, tables)
            tables["processes"] = tuple(
                _part(Process, table, f" of process '{table.get('name')}'") for table in tables["processes"]
            )
            tables["variations"] = tuple(variation_from(table, str(path)) for table in tables["variations"])
            tables["selection"] = _part(JetSelection, tables["selection"], " of the selection")
            tables["beams"] = _part(Beams, tables["beams"], " of the beams")
            campaign = cls(**tables)
            check(campaign)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"{path} is not a campaign: {error}. `hepfm-data resim` writes a complete one into its folder."
            raise InputError(msg) from error
        except InputError as error:
            msg = f"{path}: {str(error).removeprefix(f'{path}: ')}"
            raise InputError(msg) from error
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
    """A chunk under the variations number `views`, which share what they keep; its result is a shard each."""

    chunk: Chunk
    views: tuple[int, ...]


def check(campaign: Campaign) -> None:
    """Find what is wrong with a campaign before its first event.

    Files and programs that it names need not be there: they are for making views, and these may be made already.

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
        ("abs_eta_max of the selection", campaign.selection.abs_eta_max),
    ):
        if not isinstance(number, int | float) or not 0 < number < math.inf:
            msg = f"{name} is {number!r}: expected a positive number."
            raise InputError(msg)
    _check_names("process", [p.name for p in campaign.processes])
    _check_names("variation", [v.name for v in campaign.variations])
    _check_paths(campaign)
    for process in campaign.processes:
        if process.label is not None and process.label not in JET_CLASSES:
            raise InputError(unknown_name(f"label of process '{process.name}'", str(process.label), JET_CLASSES))
        if process.n_targets < 1:
            msg = f"n_targets of process '{process.name}' is {process.n_targets}: expected at least 1."
            raise InputError(msg)
        check_settings((*process.settings, *process.shower_settings), f"process '{process.name}'")
    for view, variation in enumerate(campaign.variations):
        _check_variation(campaign, view, variation)


def check_files(campaign: Campaign) -> None:
    """Check that a campaign's files are those that it was planned with.

    Not needed for Les Houches files whose events are frozen in the campaign folder.

    Raises:
        InputError: a file cannot be read, or has changed.
    """
    for process in campaign.processes:
        path = process.lhe or process.hepmc
        if path is not None and digest_of(Path(path)) != process.sha256:
            msg = f"{path} is not the file that the campaign was made from. Give that file again."
            raise InputError(msg)


def _check_variation(campaign: Campaign, view: int, variation: Variation) -> None:
    owner = f"variation '{variation.name}'"
    check_settings(variation.settings, owner)
    if variation.detector and variation.detector not in DETECTORS:
        raise InputError(unknown_name(f"detector of {owner}", variation.detector, DETECTORS))
    if variation.external:
        check_command(variation.external, owner)
    if campaign.is_finished and variation.is_independent and (view or len(what_decides(variation)) > 1):
        msg = f"{owner} cannot be simulated from finished events, of which only the detector can be run again."
        raise InputError(msg)
    if variation.is_independent:
        return
    base = next((v for v in campaign.variations if v.name == variation.base), None)
    if base is None:
        msg = f"{owner} keeps the {variation.kept} of '{variation.base}', which is not in the list. Add it."
        raise InputError(msg)
    if FREEZE_POINTS.index(base.freeze) >= FREEZE_POINTS.index(variation.freeze):
        msg = f"{owner} keeps the {variation.kept} of '{base.name}', which is not made anew there either."
        raise InputError(msg)
    if variation.freeze == "shower":
        if base.external or base.hepmc:
            msg = f"{owner} keeps the shower of '{base.name}', another generator's. Its hadrons can be kept."
            raise InputError(msg)
        check_hadronisation(variation.settings, base.settings, owner)
    elif variation.settings:
        msg = f"{owner}: setting '{variation.settings[0]}' has no effect on kept hadrons. Leave it out."
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


def _check_paths(campaign: Campaign) -> None:
    """Files and commands are written into campaign.toml, which is UTF-8; the name of a file may be any bytes."""
    settings = asdict(campaign)
    for part in (*settings["processes"], *settings["variations"]):
        for text in part.values():
            try:
                str(text).encode()
            except UnicodeEncodeError as error:
                msg = f"{text!r} is not UTF-8, as a campaign's settings are. Rename the file or folder."
                raise InputError(msg) from error


def what_decides(part: Process | Variation) -> dict[str, Any]:
    """The settings of a process or variation that decide on the dataset, as far as they are not the default."""
    described = {"description", "citation", "note"}
    if isinstance(part, Process):
        described |= {"lhe", "hepmc"}  # where the file lies; its sha256 says what it holds
    values = {f.name: (getattr(part, f.name), f.default) for f in fields(part) if f.name not in described}
    return {name: value for name, (value, default) in values.items() if value != default}


def _typed(part: Campaign | JetSelection | Beams) -> dict[str, Any]:
    """The fields of a dataclass; a number that may have a fraction is a float, though it was given as 500."""
    hints = get_type_hints(type(part))
    return {name: float(value) if hints[name] is float else value for name, value in asdict(part).items()}


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _part(kind: Callable[..., _T], table: dict[str, Any], owner: str) -> _T:
    """A part of a campaign from its TOML table, whose lists are tuples here."""
    _check_types(kind, table, owner)
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in table.items()})


def _check_types(kind: Callable[..., Any], table: dict[str, Any], owner: str = "") -> None:
    """Check that a table holds numbers, texts and lists where the fields of a dataclass are such."""
    for name, hint in get_type_hints(kind).items():
        if name not in table or hint not in _IN_TOML:
            continue
        value, (types, words) = table[name], _IN_TOML[hint]
        items = value if isinstance(value, list) else ()
        if not isinstance(value, types) or isinstance(value, bool) or not all(isinstance(item, str) for item in items):
            msg = f"{name}{owner} is {value!r}: expected {words}."
            raise InputError(msg)


def digest_of(path: Path) -> str:
    """sha256 of a file that a user gave.

    Raises:
        InputError: the file cannot be read.
    """
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
