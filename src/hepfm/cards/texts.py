"""What cards and reports say of every campaign. Markdown; all but the limitations are plain paragraphs."""

from hepfm.resim.campaign import Campaign

_SETTINGS = "Settings are Pythia's, on top of its defaults (Monash 2013 tune).\n"

_VIEWS = """\
All views of an event start from the same frozen hard process, resonance decays included; what a view shares with
another one beyond that is said under its settings. """

_EFFICIENCIES = """\
The share of simulated views in which a jet passes the selection. Errors are statistical, of each number alone"""

_SAME_EVENTS = """\
; the views of a column are of the same frozen events, so that their differences are mostly known better than that"""

_RATIOS = """\
Each variation with its ratio to the first one. The band is the statistical error of the first alone, bars are those of
the other alone; views of the same frozen events are not independent, so that the two must not be added up to a
significance. Constituents of a jet are not independent either: their errors are those of sums over jets.
"""

_NO_RATIOS = """\
Bars are statistical errors; constituents of a jet are not independent of each other, so that theirs are those of sums
over jets.
"""

_LABELS = "Labels are those of the frozen hard process: a view may have lost what its label promises."
_DEPENDENT = (
    "Views of an event are not independent of each other: errors of comparisons between them must not be added as if "
    "they were. All views of an event are in the same split."
)
_MISSING = "A view that fails the selection is a missing row"
_SELECTIONS = ": selections differ between variations, as they would in an analysis"
_NUMBERS = "Numbers of jets of the processes follow from how many events were asked for, not from their cross-sections."
_NO_UNCERTAINTY = (
    "Variations show how a simulation depends on its settings; by themselves they estimate no systematic uncertainty."
)


def views(n_variations: int) -> str:
    """What the settings of the variations are to be read as."""
    return _VIEWS * (n_variations > 1) + _SETTINGS


def efficiencies(n_variations: int) -> str:
    """What an efficiency is the share of, and its error."""
    return f"{_EFFICIENCIES}{_SAME_EVENTS * (n_variations > 1)}.\n"


def distributions(n_variations: int) -> str:
    """What figures of distributions show."""
    return _RATIOS if n_variations > 1 else _NO_RATIOS


def limitations(campaign: Campaign, n_variations: int) -> str:
    """What the jets are not, as a list.

    Args:
        campaign: decides on what is said of generator and detector.
        n_variations: that there are jets of.
    """
    several = n_variations > 1
    items = (
        f"{_generator(campaign)}; {_detector(campaign)}.",
        _LABELS,
        *[_DEPENDENT] * several,
        f"{_MISSING}{_SELECTIONS * several}.",
        _NUMBERS,
        *[_NO_UNCERTAINTY] * several,
    )
    return "".join(f"* {item}\n" for item in items)


def _generator(campaign: Campaign) -> str:
    if campaign.is_finished:
        return "Events are those of the files, with the order, the shower and the pile-up that they were made with"
    if campaign.from_files:
        return "Hard processes are those of the files, at their order, with a parton shower; no pile-up"
    return "Leading order with a parton shower; no pile-up"


def _detector(campaign: Campaign) -> str:
    has_none = {(variation.detector or campaign.detector) == "none" for variation in campaign.variations}
    if has_none == {True}:
        return "no detector: jets are of stable particles as generated"
    return "a fast, parametrised detector, not a full simulation" + ", or none" * (True in has_none)
