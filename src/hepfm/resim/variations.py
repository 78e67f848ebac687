"""Variations: the named settings under which a frozen event is simulated again."""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hepfm.errors import InputError
from hepfm.formats.toml import read_toml
from hepfm.schema import unknown_name

FREEZE_POINTS = ("hard", "shower", "hadron")
"""What a view takes over: the hard process with its resonance decays, also the parton level, also the hadrons."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Variation:
    """Named settings under which frozen events are simulated again.

    Attributes:
        name: lower-case letters, digits and hyphens; random numbers derive from it, so that the same
            variation gives the same views in every campaign of the same seed.
        settings: Pythia settings, `Name = value`, on top of Pythia's defaults (Monash 2013 tune), or of the
            settings of `base` where the view shares its shower.
        freeze: the freeze point, one of FREEZE_POINTS.
        base: the variation whose shower (`freeze = "shower"`) or hadrons (`"hadron"`) are kept.
        detector: another detector than the campaign's.
        external: command of another generator, see `hepfm.resim.external`; Pythia is not used.
        hepmc: folder of HepMC files that another generator made of the campaign's frozen events; Pythia is
            not used.
        description: for people.
        citation: where the settings come from.
    """

    name: str
    settings: tuple[str, ...] = ()
    freeze: str = "hard"
    base: str = "nominal"
    detector: str = ""
    external: str = ""
    hepmc: str = ""
    description: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        """Refuse names that would not do as a folder or a configuration's name, and what contradicts itself."""
        if not _NAME.fullmatch(self.name):
            msg = f"variation name '{self.name}': expected lower-case letters, digits and hyphens, as in 'fsr-up'."
            raise InputError(msg)
        if self.name == "all":
            msg = "variation name 'all': stands for all variations together. Choose another."
            raise InputError(msg)
        if self.name == "freeze":
            msg = "variation name 'freeze': its random numbers are those of frozen decays. Choose another."
            raise InputError(msg)
        if self.freeze not in FREEZE_POINTS:
            raise InputError(unknown_name("freeze point", self.freeze, FREEZE_POINTS))
        if (self.external or self.hepmc) and (self.settings or self.freeze != "hard" or (self.external and self.hepmc)):
            msg = f"variation '{self.name}' is another generator's: it takes no Pythia settings and no freeze point."
            raise InputError(msg)

    @property
    def is_independent(self) -> bool:
        """Whether the view starts from the hard process, and shares nothing else with another one."""
        return self.freeze == "hard"

    @property
    def kept(self) -> str:
        """What the view takes over, in words."""
        return {"hard": "hard process", "shower": "shower", "hadron": "hadrons"}[self.freeze]


# CMS CP5: values of arXiv:1903.12179, table 3, with the PDF set that Pythia itself ships (number 20,
# NNPDF3.1 NNLO with LUXqed) for CMS's LHAPDF6:NNPDF31_nnlo_as_0118.
_CP5 = (
    "Tune:pp = 14",
    "Tune:ee = 7",
    "PDF:pSet = 20",
    "MultipartonInteractions:ecmPow = 0.03344",
    "MultipartonInteractions:bProfile = 2",
    "MultipartonInteractions:pT0Ref = 1.41",
    "MultipartonInteractions:coreRadius = 0.7634",
    "MultipartonInteractions:coreFraction = 0.63",
    "ColourReconnection:range = 5.176",
    "SigmaTotal:zeroAXB = off",
    "SpaceShower:alphaSorder = 2",
    "SpaceShower:alphaSvalue = 0.118",
    "SigmaProcess:alphaSvalue = 0.118",
    "SigmaProcess:alphaSorder = 2",
    "MultipartonInteractions:alphaSvalue = 0.118",
    "MultipartonInteractions:alphaSorder = 2",
    "TimeShower:alphaSorder = 2",
    "TimeShower:alphaSvalue = 0.118",
    "SigmaTotal:mode = 0",
    "SigmaTotal:sigmaEl = 21.89",
    "SigmaTotal:sigmaTot = 100.309",
)

_DEFAULT = (
    Variation("nominal", description="Pythia's defaults, Monash 2013 tune", citation="arXiv:1404.5630"),
    Variation("reseed", description="nominal, with other random numbers", citation="arXiv:2403.07066"),
    # renormMultFac multiplies pT², so 0.5 is the renormalisation scale × 1/√2.
    Variation(
        "fsr-up",
        ("TimeShower:renormMultFac = 0.5",),
        description="more final-state radiation: μ_R × 1/√2",
        citation="arXiv:2403.07066",
    ),
    Variation(
        "fsr-down",
        ("TimeShower:renormMultFac = 2.0",),
        description="less final-state radiation: μ_R × √2",
        citation="arXiv:2403.07066",
    ),
    # The string parameters of Pythia's Tune:ee = 3 (M. Montull, 2009) without its shower parameters.
    Variation(
        "hadronisation",
        (
            "StringZ:aLund = 0.3",
            "StringZ:bLund = 0.8",
            "StringZ:aExtraDiquark = 0.5",
            "StringZ:rFactC = 1.0",
            "StringZ:rFactB = 0.67",
            "StringPT:sigma = 0.304",
            "StringFlav:probStoUD = 0.19",
            "StringFlav:probQQtoQ = 0.09",
            "StringFlav:probSQtoQQ = 1.0",
            "StringFlav:probQQ1toQQ0 = 0.027",
            "StringFlav:mesonUDvector = 0.62",
            "StringFlav:mesonSvector = 0.725",
            "StringFlav:mesonCvector = 1.06",
            "StringFlav:mesonBvector = 3.0",
            "StringFlav:etaSup = 0.63",
            "StringFlav:popcornSpair = 0.5",
        ),
        description="Lund string parameters of the LEP tune of 2009 (Tune:ee = 3), shower unchanged",
        citation="Pythia 8.3 manual, Tunes",
    ),
    Variation("cp5", _CP5, description="CMS tune CP5", citation="arXiv:1903.12179"),
    Variation(
        "colour-reconnection",
        (
            "ColourReconnection:mode = 1",
            "ColourReconnection:allowDoubleJunRem = off",
            "ColourReconnection:m0 = 0.3",
            "ColourReconnection:allowJunctions = on",
            "ColourReconnection:junctionCorrection = 1.20",
            "ColourReconnection:timeDilationMode = 2",
            "ColourReconnection:timeDilationPar = 0.18",
            "BeamRemnants:remnantMode = 1",
            "BeamRemnants:saturation = 5",
            "MultipartonInteractions:pT0Ref = 2.15",
            "StringPT:sigma = 0.335",
            "StringZ:aLund = 0.36",
            "StringZ:bLund = 0.56",
            "StringFlav:probQQtoQ = 0.078",
            "StringFlav:probStoUD = 0.2",
            "StringFlav:probQQ1toQQ0join = 0.0275,0.0275,0.0275,0.0275",
        ),
        description="QCD-based colour reconnection with junctions, mode 2",
        citation="arXiv:1505.01681",
    ),
    # Last because a view takes 6 to 15 times as long as a nominal one.
    Variation(
        "vincia",
        # Since Pythia 8.313 the shower does not bring its tune (strings, underlying event, primordial kT) along.
        ("PartonShowers:model = 2", "Vincia:tune = 0"),
        description="Vincia's antenna shower, with its own tune",
        citation="arXiv:2003.00702",
    ),
)

_FURTHER = (
    Variation(
        "isr-up",
        ("SpaceShower:renormMultFac = 0.5",),
        description="more initial-state radiation: μ_R × 1/√2",
    ),
    Variation(
        "isr-down",
        ("SpaceShower:renormMultFac = 2.0",),
        description="less initial-state radiation: μ_R × √2",
    ),
    Variation("mpi-off", ("PartonLevel:MPI = off",), description="no multiparton interactions"),
    Variation(
        "a14",
        ("Tune:pp = 21",),
        description="ATLAS tune A14 with NNPDF2.3LO",
        citation="ATL-PHYS-PUB-2014-021",
    ),
    Variation(
        "rehadronise",
        freeze="shower",
        description="nominal's parton shower, hadronised again",
        citation="arXiv:2503.11632",
    ),
    Variation("redetect", freeze="hadron", description="nominal's hadrons, through the detector again"),
    Variation(
        "rs3l-fsr-hi",
        (*_CP5, "TimeShower:renormMultFac = 0.707"),
        description="the published RS3L value: μ_R × 2^(-1/4), on tune CP5",
        citation="arXiv:2403.07066",
    ),
    Variation(
        "rs3l-fsr-lo",
        (*_CP5, "TimeShower:renormMultFac = 1.414"),
        description="the published RS3L value: μ_R × 2^(1/4), on tune CP5",
        citation="arXiv:2403.07066",
    ),
)

VARIATIONS = {v.name: v for v in (*_DEFAULT, *_FURTHER)}
"""The catalogue by name; `--variations N` takes the first N of its first eight."""
N_DEFAULT = len(_DEFAULT)


def resolve_variations(request: str) -> tuple[Variation, ...]:
    """Variations for a number, names separated by commas, or a TOML file of one's own; also mixed.

    Raises:
        InputError: an unknown or repeated name, a number out of range, or a file that cannot be read.
    """
    chosen: list[Variation] = []
    for word in (w.strip() for w in request.split(",")):
        if word.lstrip("+-").replace(".", "", 1).isdecimal():
            chosen += _first(word)
        elif word.endswith(".toml"):
            chosen += _from_file(Path(word))
        elif word in VARIATIONS:
            chosen.append(VARIATIONS[word])
        else:
            hint = f"`hepfm-data list variations` explains each; 1 to {N_DEFAULT} or a .toml file work too."
            raise InputError(f"{unknown_name('variation', word, VARIATIONS)} {hint}")  # noqa: EM102
    names = [v.name for v in chosen]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        msg = f"variation '{repeated.pop()}' is asked for twice. Name each once."
        raise InputError(msg)
    return tuple(chosen)


def freeze_at(point: str, variations: tuple[Variation, ...]) -> tuple[Variation, ...]:
    """Let all variations after the first keep its shower, or its hadrons.

    Args:
        point: a freeze point; "hard" leaves the variations as they are.
        variations: of which the first is simulated from the hard process on.

    Raises:
        InputError: the freeze point is unknown.
    """
    if point not in FREEZE_POINTS:
        raise InputError(unknown_name("freeze point", point, FREEZE_POINTS))
    if point == "hard":
        return variations
    first, *others = variations
    return (first, *(replace(v, freeze=point, base=first.name) if v.is_independent else v for v in others))


def _first(number: str) -> tuple[Variation, ...]:
    if not number.isdecimal() or not 1 <= int(number) <= N_DEFAULT:
        msg = f"{number} variations: expected a whole number from 1 to {N_DEFAULT}, or names."
        raise InputError(msg)
    return _DEFAULT[: int(number)]


def _from_file(path: Path) -> list[Variation]:
    example = '[[variation]]\\nname = "my-tune"\\nsettings = ["StringZ:aLund = 0.5"]'
    tables = read_toml(path).get("variation")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        msg = f"{path}: expected at least one [[variation]] table, such as {example}"
        raise InputError(msg)
    return [variation_from(table, str(path)) for table in tables]


def variation_from(table: dict[str, Any], where: str) -> Variation:
    """A variation from a TOML table.

    Raises:
        InputError: a key is missing, unknown, or of the wrong type; `where` names the file.
    """
    known = {f.name: list if f.name == "settings" else str for f in fields(Variation)}
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where}: {unknown_name('key of a variation', key, known)}")  # noqa: EM102
        if not isinstance(value, known[key]):
            msg = f"{where}: '{key}' of a variation should be a {known[key].__name__}, not {value!r}."
            raise InputError(msg)
    if "name" not in table:
        msg = f"{where}: a variation has no name."
        raise InputError(msg)
    settings = table.get("settings", [])
    if not all(isinstance(line, str) for line in settings):
        msg = f"{where}: the settings of '{table['name']}' should be strings such as \"StringZ:aLund = 0.5\"."
        raise InputError(msg)
    try:
        return Variation(**{**table, "settings": tuple(settings)})
    except InputError as error:
        msg = f"{where}: {error}"
        raise InputError(msg) from error
