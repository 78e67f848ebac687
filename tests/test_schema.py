import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hepfm.errors import HepfmError
from hepfm.schema import (
    COLUMNS,
    CONSTITUENT_COLUMNS,
    GROUPS,
    JET_CLASSES,
    JET_COLUMNS,
    JET_FLAVOURS,
    SPLITS,
    column,
    split_of,
)

# The branches of the published JetClass files (jet-universe/particle_transformer, data/JetClass), less labels
# and the generated particle.
JETCLASS_BRANCHES = [
    *(f"part_{name}" for name in ("px", "py", "pz", "energy", "deta", "dphi", "charge")),
    *(f"part_{name}" for name in ("d0val", "d0err", "dzval", "dzerr")),
    *(f"part_is{name}" for name in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")),
    *(f"jet_{name}" for name in ("pt", "eta", "phi", "energy", "nparticles", "sdmass")),
    *(f"jet_tau{n}" for n in (1, 2, 3, 4)),
]


def test_every_jetclass_branch_has_a_column_of_its_name():
    assert set(JETCLASS_BRANCHES) <= set(COLUMNS)


def test_groups_hold_every_column_once_with_a_meaning():
    names = [c.name for group in GROUPS.values() for c in group]

    assert len(names) == len(set(names))
    assert names == list(COLUMNS) == [*JET_COLUMNS, *CONSTITUENT_COLUMNS]
    assert all(c.meaning for c in COLUMNS.values())
    assert all(c.name.startswith("part_") == (c.name in CONSTITUENT_COLUMNS) for c in COLUMNS.values())


def test_classes_and_flavours_keep_the_published_codes():
    assert JET_CLASSES.index("Tbl") == 9
    published = dict(q=1, c=2, b=3, Hbb=4, gqq=5, gcc=6, gbb=7, ggg=8, W=9, Zqq=10, Zbb=11)
    assert published.items() <= JET_FLAVOURS.items()
    assert sorted(JET_FLAVOURS.values()) == list(range(14))


def test_the_documented_columns_are_those_of_the_code():
    page = (Path(__file__).parents[1] / "docs" / "data-format.md").read_text(encoding="utf-8")
    documented = [line for line in page.splitlines() if line.startswith(("| `jet_", "| `part_", "| `truth_"))]
    coded = [f"| `{c.name}` | {c.dtype} | {c.unit} | {c.meaning} |" for c in COLUMNS.values()]

    assert [line for line in coded if line in page.splitlines()] == coded
    assert set(documented) <= set(coded)
    assert ", ".join(f"{i} {name}" for i, name in enumerate(JET_CLASSES)) in page
    assert ", ".join(f"{code} {name}" for name, code in JET_FLAVOURS.items()) in page


def test_an_unknown_column_is_refused_with_the_one_that_was_meant():
    with pytest.raises(HepfmError, match=r"unknown column 'part_chage'.*Did you mean 'part_charge'\?"):
        column("part_chage")


def splitmix64(state: int) -> int:
    """The published generator's output for one state, in Python's own integers."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_split_agrees_with_an_independent_splitmix64():
    # The first number that Vigna's splitmix64.c gives for the seed 0.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    events = [0, 1, 2, 3, 1000, 2**40 + 1, 2**63 - 1, -1, -(2**63)]
    expected = [max(0, splitmix64(event % 2**64) % 10 - 7) for event in events]

    assert split_of(np.array(events, np.int64)).tolist() == expected


def test_split_of_the_first_events_never_changes():
    # Published data sets are split like this. If it must change, so must SPLIT_RULE's version.
    first = split_of(np.arange(40))

    assert "".join(map(str, first)) == "0000110001000010020000001000000000200000"


def test_split_is_80_10_10():
    shares = np.bincount(split_of(np.arange(1_000_000)), minlength=len(SPLITS)) / 1_000_000

    # Five standard deviations of a binomial share are below 0.002.
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.002)


def test_split_keeps_the_shape_and_takes_a_single_number():
    events = np.arange(6).reshape(2, 3)

    assert split_of(events).shape == (2, 3)
    assert split_of(np.int64(4)) == split_of(events)[1, 1]
    assert split_of(np.empty(0, np.int64)).shape == (0,)


def test_schema_needs_no_heavy_library():
    code = "import sys, hepfm.schema, hepfm.table; print(*{'h5py', 'awkward', 'torch'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"
