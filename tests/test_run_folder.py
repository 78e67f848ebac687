"""What is logged and measured in the folder of a training."""

import json
import math

import pytest

from hepfm.errors import InputError
from hepfm.run_folder import METRICS, append_metrics, read_metrics, read_object, write_json


def test_a_line_that_a_kill_has_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / METRICS
    append_metrics(path, {"step": 10, "loss": 2.0})
    append_metrics(path, {"step": 20, "loss": 1.5})
    path.write_bytes(path.read_bytes()[:-7])
    append_metrics(path, {"step": 20, "loss": 1.0})
    append_metrics(path, {"step": 30, "loss": 0.5})

    assert [(entry["step"], entry["loss"]) for entry in read_metrics(tmp_path)] == [(10, 2), (20, 1), (30, 0.5)]


def test_what_was_logged_again_counts_once_and_kinds_of_entries_are_kept_apart(tmp_path):
    for entry in ({"step": 20, "loss": 1.0}, {"step": 20, "validation_loss": 3.0}, {"step": 10, "loss": 2.0}):
        append_metrics(tmp_path / METRICS, entry)
        append_metrics(tmp_path / METRICS, entry)

    assert read_metrics(tmp_path) == [
        {"step": 10, "loss": 2},
        {"step": 20, "loss": 1},
        {"step": 20, "validation_loss": 3},
    ]


def test_what_is_not_known_is_null_for_every_reader_of_json(tmp_path):
    write_json(tmp_path / "a.json", {"nan": math.nan, "list": [math.inf, 1.5], "table": {"deep": -math.inf}})

    def fail(word):
        raise AssertionError(word)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=fail)
    assert found == {"nan": None, "list": [None, 1.5], "table": {"deep": None}}


def test_a_file_that_is_no_json_is_one_clear_line(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"accuracy": 0.')
    with pytest.raises(InputError, match=r"evaluation\.json: is not JSON \(.*Train or evaluate again\.$"):
        read_object(tmp_path / "evaluation.json")
    assert read_object(tmp_path / "none.json") is None
