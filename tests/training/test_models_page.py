"""What docs/models.md shows is run here."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_jets import toys

from hepfm.cli import cli
from hepfm.formats.root import write_root
from hepfm.models import AutoModel, JetBackbone, JetBackboneConfig
from hepfm.models.configuration import sized

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_code_works(small_campaign, tmp_path, monkeypatch, capsys):
    code, vectors = blocks("python")
    model = JetBackbone(JetBackboneConfig(width=32, heads=2, depth=1))
    model.save_pretrained(tmp_path / "runs" / "mpm")
    (tmp_path / "resim-jets").symlink_to(small_campaign[1])
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "models.md", "exec"), {})

    assert re.match(r"torch.Size\(\[16, \d+, 32\]\) torch.Size\(\[16, 32\]\)", capsys.readouterr().out)
    write_root(tmp_path / "my_jets.root", [toys(20)])
    exec(compile(vectors, "models.md", "exec"), {})
    assert np.load("vectors.npy").shape == (20, 128)


@pytest.mark.parametrize("line", "".join(blocks("bash")).splitlines())
def test_the_commands_have_the_options_and_recipes_that_they_name(line):
    words = shlex.split(line)
    words = words[words.index("hepfm.cli" if "hepfm.cli" in words else "hepfm-data") + 1 :]
    with cli.make_context("hepfm-data", words[:1], resilient_parsing=True) as context:
        command = cli.get_command(context, words[0])
        command.make_context(words[0], words[1:], parent=context)
    assert (ROOT / words[1]).exists()


def test_recipes_of_the_table_exist():
    names = re.findall(r"`((?:mpm|rs3l)-[a-z0-9-]+)`", PAGE)
    assert set(names) == {path.stem for path in (ROOT / "recipes").glob("*.toml") if path.stem[:4] in ("mpm-", "rs3l")}


def test_numbers_of_weights_are_those_of_the_table():
    for size, millions in re.findall(
        r"^\|(?: `JetBackbone`,)? (tiny|small|base|large) \| ([\d.]+) M", PAGE, re.MULTILINE
    ):
        with torch.device("meta"):
            backbone = AutoModel.from_config(sized(size))
        assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(1e6 * float(millions), rel=0.025)
