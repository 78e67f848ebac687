"""What cards and reports say of every campaign. Markdown; all but the limitations are plain paragraphs."""

VIEWS = """\
All views of an event start from the same frozen hard process, resonance decays included; what a view shares with
another one beyond that is said under its settings. Settings are Pythia's, on top of its defaults (Monash 2013 tune).
"""

EFFICIENCIES = """\
The share of simulated views in which a jet passes the selection. Errors are statistical, of each number alone: the
views of a column are of the same frozen events, so that their differences are mostly known better than that.
"""

DISTRIBUTIONS = """\
Each variation with its ratio to the first one. The band is the statistical error of the first alone, bars are those of
the other alone; views of the same frozen events are not independent, so that the two must not be added up to a
significance. Constituents of a jet are not independent either: their errors are those of sums over jets.
"""

ONE_VARIATION = """\
Bars are statistical errors; constituents of a jet are not independent of each other, so that theirs are those of sums
over jets.
"""

LIMITATIONS = """\
* Leading order with a parton shower; no pile-up; a fast, parametrised detector, not a full simulation.
* Labels are those of the frozen hard process: a view may have lost what its label promises.
* Views of an event are not independent of each other: errors of comparisons between them must not be added as if they
  were. All views of an event are in the same split.
* A view that fails the selection is a missing row: selections differ between variations, as they would in an analysis.
* Numbers of jets of the processes follow from how many events were asked for, not from their cross-sections.
* Variations show how a simulation depends on its settings; by themselves they estimate no systematic uncertainty.
"""
