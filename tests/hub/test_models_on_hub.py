"""A backbone pre-trained on a dataset of the Hub on loopback: pushed by the command, loaded by name."""

import json
import sys

from conftest import REPO

RECIPE = """
objective = "mpm"
[mpm]
targets = ["type"]
[optimisation]
n_steps = 2
batch_size = 8
save_every = 2
"""

# In one process, for importing PyTorch and transformers takes longer than all that it does with them.
PUSH_AND_LOAD = """
import contextlib, io, json, sys
import torch
import transformers
from hepfm.cli import cli
from hepfm.errors import HepfmError
from hepfm.models import AutoModel
said = io.StringIO()
with contextlib.redirect_stdout(said):
    for _ in range(2):
        cli(sys.argv[1:], standalone_mode=False)
here, there = AutoModel.from_pretrained("run"), AutoModel.from_pretrained("hepfm/mpm-mini")
plain = transformers.AutoModel.from_pretrained("hepfm/mpm-mini")
weights = [model.state_dict() for model in (here, there, plain)]
answers = [json.loads(said.getvalue().splitlines()[-1])]
answers.append(all(torch.equal(weights[0][name], other[name]) for other in weights for name in weights[0]))
for name, more in (("hepfm/connected", {}), ("hepfm/mpm-mini", {"revision": "v9"})):
    try:
        AutoModel.from_pretrained(name, **more)
    except HepfmError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


def test_pushed_backbone_is_loaded_by_its_name_and_nothing_is_sent_twice(published):
    hub, run = published.hub, published.folder / "run"
    (published.folder / "mini.toml").write_text(RECIPE)
    n_commits = hub.count("POST", "/commit/")
    command = ("pretrain", "mini.toml", "--data", REPO, "--out", "run", "--push", "hepfm/mpm-mini", "--json")
    done = published(sys.executable, "-c", PUSH_AND_LOAD, *command)
    answer, equal, no_network, no_revision = json.loads(done.stdout.splitlines()[-1])
    files = set(hub.repositories["models", "hepfm/mpm-mini"].tree()) - {".gitattributes"}
    card, data = (run / "README.md").read_text(), json.loads((run / "training.json").read_text())["data"]["sources"][0]

    assert files >= {"README.md", "config.json", "model.safetensors", "recipe.toml", "training.json", "metrics.jsonl"}
    assert not any("checkpoint" in name for name in files)
    assert hub.count("POST", "/commit/") == n_commits + 1
    assert answer["url"].endswith("/hepfm/mpm-mini")
    assert 'AutoModel.from_pretrained("hepfm/mpm-mini")' in card
    assert f'datasets: ["{REPO}"]' in card
    assert (data["name"], data["published"]) == (REPO, True)
    assert equal
    assert no_network.startswith("InputError: hepfm/connected: no such model on the Hub, or it is private")
    assert no_revision.startswith("InputError: hepfm/mpm-mini: has no such revision")
    assert no_network.count("\n") == no_revision.count("\n") == 0
