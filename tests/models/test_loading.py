"""What AutoModel loads, and everything that it refuses: nothing may run, hang or load halfway."""

import json
import pickle
import struct
import subprocess
import sys

import pytest
import torch
import transformers
from network_samples import make, random_jets
from safetensors.torch import load_file, save_file

from hepfm import zoo
from hepfm.errors import HepfmError, InputError
from hepfm.models import (
    AutoModel,
    AutoModelForSequenceClassification,
    JetBackbone,
    JetForSequenceClassification,
)
from hepfm.networks.strict import CONFIG, WEIGHTS


@pytest.fixture
def saved(backbone, tmp_path):
    backbone.save_pretrained(tmp_path)
    return backbone, tmp_path


@pytest.fixture
def folder(tmp_path):
    make("transformer").save_pretrained(tmp_path)
    return tmp_path


def change_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
@pytest.mark.parametrize("library", ["hepfm", "transformers"])
def test_what_was_saved_comes_back_to_the_last_bit(saved, library):
    backbone, folder = saved
    loaded = (AutoModel if library == "hepfm" else transformers.AutoModel).from_pretrained(folder)
    jets = random_jets(backbone.config, [11, 5])

    assert type(loaded) is type(backbone)
    assert not loaded.training
    assert torch.equal(loaded(*jets).pooler_output, backbone(*jets).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("library", ["hepfm", "transformers"])
@pytest.mark.parametrize("classes", [("QCD", "Hbb", "Tbqq"), None])
def test_classifiers_come_back_with_the_names_of_their_classes(backbone, tmp_path, library, classes):
    model = JetForSequenceClassification.from_backbone(backbone, classes, head_width=16).eval()
    model.save_pretrained(tmp_path)
    auto = AutoModelForSequenceClassification if library == "hepfm" else transformers.AutoModelForSequenceClassification
    loaded = auto.from_pretrained(tmp_path)
    jets = random_jets(backbone.config, [11, 5])

    assert list(loaded.config.id2label.values()) == list(classes or ["value"])
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(loaded(*jets).logits, model(*jets).logits)


@torch.no_grad()
def test_a_network_stays_as_it_was_loaded_when_its_file_changes(saved):
    backbone, folder = saved
    loaded = AutoModel.from_pretrained(folder)
    weights = (folder / WEIGHTS).read_bytes()
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(len(weights) // 2)
        file.write(bytes(len(weights) // 2))

    jets = random_jets(backbone.config, [11, 5])
    assert torch.equal(loaded(*jets).pooler_output, backbone(*jets).pooler_output)


def test_plain_transformers_loads_it_in_a_new_process(folder):
    code = (
        "import sys, transformers, hepfm.models\n"
        "print(type(transformers.AutoModel.from_pretrained(sys.argv[1])).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["JetBackbone"]


def test_loading_makes_no_noise(folder, capfd):
    AutoModel.from_pretrained(folder)
    assert capfd.readouterr() == ("", "")


class Bomb:
    """Pickled, it would write a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def only_a_pickle(folder):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(folder / "exploded")))


def pickle_as_safetensors(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb(folder / "exploded")))


def cut_in_half(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def header_of_a_terabyte(folder):
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**40) + b"{}")


def tensor_of_a_terabyte(folder):
    entry = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    header = json.dumps({"encoder.norm.weight": entry}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)


HOSTILE = {
    "a weight is missing": (
        lambda f: change_weights(f, lambda w: w.pop("encoder.norm.bias")),
        "lacks weight 'encoder.norm.bias'",
    ),
    "a weight too many": (
        lambda f: change_weights(f, lambda w: w.update(extra=torch.ones(2))),
        "has an unexpected weight 'extra'",
    ),
    "another shape": (
        lambda f: change_weights(f, lambda w: w.update({"encoder.norm.bias": torch.ones(31)})),
        r"'encoder.norm.bias' has shape \[31\], expected \[32\]",
    ),
    "not a number": (
        lambda f: change_weights(f, lambda w: w["encoder.norm.bias"].fill_(torch.nan)),
        "'encoder.norm.bias' has values that are no numbers",
    ),
    "other sizes in the configuration": (lambda f: change_config(f, depth=3), "lacks weight 'encoder.blocks.2"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "no model.safetensors"),
    "only a pickle": (only_a_pickle, r"pytorch_model.bin is not opened: such files can run code"),
    "a pickle under another name": (pickle_as_safetensors, "is no whole safetensors file"),
    "an empty file": (lambda f: (f / WEIGHTS).write_bytes(b""), "is no whole safetensors file"),
    "cut in half": (cut_in_half, "is no whole safetensors file"),
    "a header of a terabyte": (header_of_a_terabyte, "is no whole safetensors file"),
    "a tensor of a terabyte": (tensor_of_a_terabyte, "is no whole safetensors file|promises"),
    "no configuration": (lambda f: (f / CONFIG).unlink(), "no config.json"),
    "a configuration that is no JSON": (lambda f: (f / CONFIG).write_text("{"), "is not JSON"),
    "a configuration of bytes": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "is not JSON"),
    "a configuration nested without end": (lambda f: (f / CONFIG).write_text("[" * 100_000), "is not JSON"),
    "a configuration that is a list": (lambda f: (f / CONFIG).write_text("[1]"), "expected a JSON object, got list"),
    "a huge configuration": (lambda f: (f / CONFIG).write_text(" " * 11_000_000), "which no configuration has"),
    "another kind of network": (
        lambda f: change_config(f, model_type="bert"),
        "of type 'bert'; expected hepfm-jet or hepfm-edgeconv",
    ),
    "no kind of network": (lambda f: change_config(f, model_type="gone"), "of type None"),
    "code of its own": (
        lambda f: change_config(f, auto_map={"AutoModel": "modeling.Net"}),
        "'auto_map', which makes a loader run",
    ),
    "weights elsewhere": (
        lambda f: change_config(f, transformers_weights="pytorch_model.bin"),
        "'transformers_weights', which makes a loader run",
    ),
    "absurdly wide": (lambda f: change_config(f, width=10**12), "width of a network must lie between"),
    "absurdly deep": (lambda f: change_config(f, depth=10**9), "depth of a network must lie between"),
    "a width that is no number": (lambda f: change_config(f, width="128"), "width"),
    "numbers of a type that is none": (
        lambda f: change_config(f, dtype="evil"),
        "describes no network|cannot be loaded",
    ),
    "an attention from the Hub": (
        lambda f: change_config(f, _attn_implementation="someone/kernels"),
        "'_attn_implementation', which makes a loader run",
    ),
    "an adapter of another network": (
        lambda f: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}'),
        "adapter_config.json: makes a loader fetch another network",
    ),
    "names of classes that are none": (
        lambda f: change_config(f, id2label=[["a"]]),
        "describes no network|cannot be loaded",
    ),
    "inputs that are no list": (lambda f: change_config(f, inputs=7), "describes no network"),
    "unknown inputs": (lambda f: change_config(f, inputs=["part_pt", "jet_label"]), "unknown input of a network"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_wrong_and_hostile_files_are_one_clear_line(folder, case):
    damage, message = HOSTILE[case]
    damage(folder)
    with pytest.raises(HepfmError, match=message) as caught:
        AutoModel.from_pretrained(folder)

    assert "\n" not in str(caught.value)
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("case", ["only a pickle", "a weight is missing", "not a number", "weights elsewhere"])
def test_plain_transformers_is_as_strict(folder, case):
    damage, message = HOSTILE[case]
    damage(folder)
    with pytest.raises(InputError, match=message):
        transformers.AutoModel.from_pretrained(folder)
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize(
    "setting",
    [
        {"trust_remote_code": True},
        {"ignore_mismatched_sizes": True},
        {"key_mapping": {"a": "b"}},
        {"gguf_file": "model.gguf"},
        {"variant": "fp16"},
        {"attn_implementation": "someone/kernels"},
        {"use_kernels": True},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_would_undo_strictness_are_refused(folder, setting):
    with pytest.raises(InputError, match=f"{next(iter(setting))} is refused"):
        AutoModel.from_pretrained(folder, **setting)


def test_a_classifier_is_no_backbone_and_a_backbone_no_classifier(folder, tmp_path):
    with pytest.raises(InputError, match="`hepfm-data finetune` makes the one of the other"):
        AutoModelForSequenceClassification.from_pretrained(folder)
    JetForSequenceClassification.from_backbone(JetBackbone.from_pretrained(folder), ["a", "b"]).save_pretrained(folder)
    with pytest.raises(InputError, match="A classifier loads with AutoModelForSequenceClassification"):
        AutoModel.from_pretrained(folder)


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "nothing", ""])
def test_a_name_that_is_nothing_says_what_is_expected(name):
    with pytest.raises(
        InputError, match=r"no such folder; expected one with config.json, or OWNER/NAME|no config.json"
    ):
        AutoModel.from_pretrained(name)


def test_a_copy_in_the_package_comes_before_the_hub(tmp_path, monkeypatch):
    """A folder of the package's form stands in for the package."""
    (tmp_path / "another_zoo").mkdir()
    (tmp_path / "another_zoo" / "__init__.py").touch()
    make("transformer").save_pretrained(tmp_path / "another_zoo" / "some-copy")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(zoo, "PACKAGE", "another_zoo")

    assert zoo.bundled() == ("hepfm/some-copy",)
    assert type(AutoModel.from_pretrained("hepfm/some-copy")) is JetBackbone
    with pytest.raises(HepfmError, match="hepfm/some-copy: "):
        AutoModel.from_pretrained("hepfm/some-copy", revision="v1", local_files_only=True, cache_dir=tmp_path)


def test_a_name_of_the_hub_is_looked_for_there_and_nowhere_else(tmp_path):
    """Here without a network: nothing is in the cache."""
    with pytest.raises(HepfmError, match=r"^someone/some-network: ") as caught:
        AutoModel.from_pretrained("someone/some-network", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
