"""The catalogue of hard processes, and the presets that group them."""

from dataclasses import dataclass, replace

from hepfm.errors import InputError
from hepfm.resim.clustering import JetSelection
from hepfm.schema import JET_CLASSES, unknown_name


@dataclass(frozen=True)
class Process:
    """A source of frozen events: a process of Pythia's, a Les Houches file, or a HepMC file.

    Attributes:
        name: goes into the dataset's `process` column.
        settings: Pythia settings; for a file, those of the decays that the file left open.
        shower_settings: Pythia settings that every view of these events needs.
        label: class of the jets kept (see `hepfm.schema.JET_CLASSES`); None keeps every class.
        n_targets: an event belongs to the process if it holds as many resonances (or partons) of `label`.
        lhe: path of a Les Houches file, or None.
        hepmc: path of a HepMC file of finished events, or None.
        n_available: events in that file.
        sha256: digest of that file.
        description: for people.
        citation: where the definition comes from.
        note: what the user should know before running.
    """

    name: str
    settings: tuple[str, ...] = ()
    shower_settings: tuple[str, ...] = ()
    label: str | None = None
    n_targets: int = 1
    lhe: str | None = None
    hepmc: str | None = None
    n_available: int | None = None
    sha256: str | None = None
    description: str = ""
    citation: str = ""
    note: str = ""


@dataclass(frozen=True)
class Preset:
    """Processes, phase space and jet selection that belong together.

    Attributes:
        processes: names in the catalogue.
        pt_hat_min: least pt of the hard process in GeV; below the jets' pt_min, so that few jets are lost. See
            docs/physics-validation.md for how many.
        selection: which jets are kept.
        match_radius: a jet belongs to a frozen resonance or parton within this distance of its axis, in
            eta and phi; the quarks and charged leptons of a resonance must lie within the jet's radius too.
        description: for people.
        citation: where the definition comes from.
        shower_settings: Pythia settings that every view of these processes needs.
    """

    processes: tuple[str, ...]
    pt_hat_min: float
    selection: JetSelection
    match_radius: float
    description: str
    citation: str
    shower_settings: tuple[str, ...] = ()


_RS3L = "arXiv:2403.07066"
_JETCLASS = "arXiv:2202.03772"
_HZ = ("HiggsSM:ffbar2HZ = on", "23:onMode = off", "23:onIfAny = 12 14 16", "25:onMode = off")
_TOP_PAIRS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off")
_QUARKS = "1 2 3 4 5"
_LIGHT_LEPTONS = "11 13"  # JetClass has no taus

PROCESSES = {
    p.name: p
    for p in (
        Process(
            "QCD",
            (
                "WeakBosonAndParton:qqbar2gmZg = on",
                "WeakBosonAndParton:qg2gmZq = on",
                "WeakZ0:gmZmode = 2",  # the Z alone, without the photon
                "23:onMode = off",
                "23:onIfAny = 12 14 16",
            ),
            label="QCD",
            description="Z(νν) + one quark or gluon",
            citation=f"{_RS3L}, {_JETCLASS}",
        ),
        Process(
            "Hbb",
            (*_HZ, "25:onIfMatch = 5 -5"),
            label="Hbb",
            description="H(bb) Z(νν)",
            citation=f"{_RS3L}, {_JETCLASS}",
        ),
        Process("Hcc", (*_HZ, "25:onIfMatch = 4 -4"), label="Hcc", description="H(cc) Z(νν)", citation=_JETCLASS),
        Process("Hgg", (*_HZ, "25:onIfMatch = 21 21"), label="Hgg", description="H(gg) Z(νν)", citation=_JETCLASS),
        Process(
            "H4q",
            (*_HZ, "25:onIfMatch = 24 -24", "24:onMode = off", f"24:onIfAny = {_QUARKS}"),
            label="H4q",
            description="H(WW → 4q) Z(νν)",
            citation=_JETCLASS,
        ),
        Process(
            "Hqql",
            (*_HZ, "25:onIfMatch = 24 -24", "24:onMode = off", f"24:onIfAny = {_QUARKS} {_LIGHT_LEPTONS}"),
            label="Hqql",
            description="H(WW → ℓνqq) Z(νν), ℓ = e, μ",
            citation=_JETCLASS,
        ),
        Process(
            "Zqq",
            (
                "WeakDoubleBoson:ffbar2gmZgmZ = on",
                "WeakZ0:gmZmode = 2",
                "23:onMode = off",
                f"23:onIfAny = {_QUARKS} 12 14 16",
            ),
            label="Zqq",
            description="Z(qq) Z(νν)",
            citation=_JETCLASS,
        ),
        Process(
            "Wqq",
            (
                "WeakDoubleBoson:ffbar2ZW = on",
                "23:onMode = off",
                "23:onIfAny = 12 14 16",
                "24:onMode = off",
                f"24:onIfAny = {_QUARKS}",
            ),
            label="Wqq",
            description="W(qq') Z(νν)",
            citation=f"{_RS3L}, {_JETCLASS}",
        ),
        Process(
            "Tbqq",
            (*_TOP_PAIRS, f"24:onIfAny = {_QUARKS}"),
            label="Tbqq",
            n_targets=2,
            description="tt, both t → bqq'",
            citation=_JETCLASS,
        ),
        Process(
            "Tbl",
            (*_TOP_PAIRS, f"24:onIfAny = {_LIGHT_LEPTONS}"),
            label="Tbl",
            n_targets=2,
            description="tt, both t → bℓν, ℓ = e, μ",
            citation=_JETCLASS,
        ),
    )
}
"""Hard processes that Pythia generates, pp at leading order; the presets add the phase space."""

PRESETS = {
    "rs3l": Preset(
        ("Hbb", "QCD"),
        350.0,
        JetSelection(candidate_pt_min=1.0, pt_min=400.0, pt_max=float("inf"), abs_eta_max=2.5),
        0.5,
        "H→bb and QCD jets above 400 GeV, as in RS3L",
        _RS3L,
    ),
    "jetclass": Preset(
        JET_CLASSES,
        450.0,
        JetSelection(candidate_pt_min=0.0, pt_min=500.0, pt_max=1000.0, abs_eta_max=2.0),
        0.8,
        "the ten classes of JetClass, 500 to 1000 GeV",
        _JETCLASS,
        # JetClass ran Pythia with MadGraph's card, in which K0S and strange baryons decay before the detector.
        # Those that decay outside of the tracker are lost; see docs/physics-validation.md.
        ("ParticleDecays:limitTau0 = off",),
    ),
}
"""Presets by name; the first is the default."""

FILES = Preset(
    (),
    0.0,
    JetSelection(candidate_pt_min=1.0, pt_min=20.0, pt_max=float("inf"), abs_eta_max=2.5),
    0.8,
    "jets above 20 GeV of events from Les Houches files: the files decide on the phase space",
    "",
)
"""Selection for events from outside."""


def resolve_processes(request: str) -> tuple[tuple[Process, ...], Preset]:
    """Processes and preset for `rs3l`, `jetclass`, or names of the catalogue separated by commas.

    Names of the catalogue come with the phase space and selection of the default preset.

    Raises:
        InputError: an unknown or repeated name.
    """
    if request in PRESETS:
        preset = PRESETS[request]
        names = preset.processes
    else:
        preset = PRESETS["rs3l"]
        names = tuple(name.strip() for name in request.split(","))
    for name in names:
        if name in PRESETS:
            msg = f"'{name}' stands for several processes and cannot be one of a list. Give it alone."
            raise InputError(msg)
        if name not in PROCESSES:
            raise InputError(unknown_name("process", name, [*PROCESSES, *PRESETS]))
    if len(set(names)) < len(names):
        msg = f"a process is named twice in '{request}'. Name each once."
        raise InputError(msg)
    return tuple(replace(PROCESSES[name], shower_settings=preset.shower_settings) for name in names), preset
