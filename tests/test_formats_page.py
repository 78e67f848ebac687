"""The examples of docs/formats.md are run here, and its lists compared with what the code says."""

import re
import shlex
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import hepfm
from hepfm import cli
from hepfm.exporting import FORMATS
from hepfm.formats.column_map import MAPS
from hepfm.formats.root import write_root
from hepfm.schema import COLUMNS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
# Files of other origin are made as the tests of their formats make them.
sys.path.append(str(Path(__file__).parent / "formats"))

from mapped_tables import ragged_columns, top_tagging_frame, write_flat, write_jetnet  # noqa: E402
from test_aspen import write_as_h5_maker_does  # noqa: E402


def sections() -> dict[str, str]:
    parts = re.split(r"^##+ (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SECTIONS = sections()
WITH_EXAMPLES = [title for title, text in SECTIONS.items() if "```" in text]
SHARED = {"JetClass-II": "jetclass2.root", "CMS NanoAOD": "pfnano.root", "Aspen Open Jets": "RunG_batch0.h5"}


@pytest.fixture(scope="module")
def folder(small_campaign, tmp_path_factory) -> Path:
    """A folder with all files that the page names, but for those made of the reference data."""
    place = tmp_path_factory.mktemp("page")
    (place / "resim-jets").symlink_to(small_campaign[1])
    # As the published files: no names of variations and processes.
    columns = [name for name in COLUMNS if name.startswith(("jet_", "part_")) and name != "jet_index"]
    write_root(place / "HToBB_100.root", [hepfm.open(small_campaign[1]).read_table(columns)])
    top_tagging_frame()[0].to_hdf(place / "train.h5", key="table", format="table")
    write_jetnet(place / "t.hdf5")
    candidates = np.zeros((2, 5, 4))
    candidates[:, :2] = [[50, 0.1, 1.0, 211], [20, 0.2, 1.1, -13]]
    np.savez(place / "QG_jets.npz", X=candidates, y=np.array([1.0, 0.0]))
    write_flat("root", place / "mine.root", ragged_columns()[0], {"truth": np.array([0, 1, 1, 0]), "xsec": np.ones(4)})
    lists = {
        "pt": [[100e3, 50e3], [80e3, 20e3]],
        "eta": [[0.1, 0.2], [-1.0, -1.1]],
        "phi": [[3.0, -3.1], [0.0, 0.1]],
        "w": [[1.0, 0.5], [1.0, 0.0]],
        "id": [[22, 211], [-11, 130]],
        "d0": [[-999.0, 0.002], [0.1, -999.0]],
    }
    numbers = {"event": [7, 8], "jet_phi": [3.05, 0.02], "xsec": [1.0, 2.0], "truth": ["top", "qcd"]}
    pq.write_table(pa.table({**lists, **numbers}), place / "ours.parquet")
    return place


def checked(code: str) -> str:
    """Code in which every line `expression  # → text` says what the expression must print as."""
    line = r"^(\S.*?)  # → (.*)$"
    return re.sub(line, lambda m: f"assert str({m[1]}) == {m[2]!r}, str({m[1]})", code, flags=re.MULTILINE)


def run_commands(code: str) -> None:
    """Do what a shell does of it: write the files that are given word by word, and run the commands."""
    here = r"^cat > (\S+) <<'END'\n(.*?)^END\n"
    for name, text in re.findall(here, code, re.MULTILINE | re.DOTALL):
        Path(name).write_text(text, encoding="utf-8")
    for line in re.sub(here, "", code, flags=re.MULTILINE | re.DOTALL).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "hepfm-data"
        done = CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("title", WITH_EXAMPLES)
def test_the_examples_work(title, folder, request, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    if title in SHARED:
        data = request.getfixturevalue("shared") / "data"
        if title == "Aspen Open Jets":
            write_as_h5_maker_does(data / "cms_pfnano.root", folder / SHARED[title])
        else:
            name = {"JetClass-II": "jetclass2_example.root", "CMS NanoAOD": "cms_pfnano.root"}[title]
            (folder / SHARED[title]).symlink_to(data / name)
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL):
        if language == "bash":
            run_commands(code)
        else:
            exec(compile(checked(code), f"{PAGE.name}, {title}", "exec"), {})


def test_every_format_of_the_table_has_an_example():
    table = PAGE.read_text(encoding="utf-8").split("\n## ")[0]
    rows = re.findall(r"^\| \[(.+?)\]\(#(.+?)\)", table, re.MULTILINE)
    titles = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"): title for title in SECTIONS}

    assert len(rows) == 14
    for name, anchor in rows:
        assert titles[anchor] in WITH_EXAMPLES or name == "a dataset on the Hub"
    for to in FORMATS:
        assert f"--to {to}" in table
    for name in MAPS:
        assert f'columns="{name}"' in table


def test_what_a_format_cannot_carry_is_what_the_export_says():
    lines = re.findall(r"^\* (.*)$", SECTIONS["What a format cannot carry"], re.MULTILINE)
    said = {line for left_out, _ in FORMATS.values() for line in left_out(COLUMNS)}

    assert set(lines) == said


def test_the_columns_that_a_map_can_name_are_all_explained():
    from hepfm.formats.map_language import INGREDIENTS, KEYS, OPTIONS, UNITS

    text = SECTIONS["Any other table"]
    words = set(re.findall(r"[\w]+", text))
    assert set(INGREDIENTS) <= words
    assert set(OPTIONS) | set(KEYS) <= words
    assert {unit for units in UNITS.values() for unit in units} - {"rad"} <= words
