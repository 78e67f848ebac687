"""What several formats share, by the tables of jets without constituents, which have no reader of ours."""

import numpy as np
import pytest
import uproot

from hepfm.errors import InputError
from hepfm.formats.flat import write_flat
from hepfm.table import JetTable


def jets(**columns: np.ndarray) -> list[JetTable]:
    return [JetTable(columns, np.zeros(4, np.int64), {})]


def test_a_name_within_that_of_another_column_is_refused_and_leaves_nothing(tmp_path):
    columns = {"event": np.arange(3), "event/weight": np.ones(3)}
    with pytest.raises(InputError, match=r"jets\.h5: column 'event/weight' cannot be written: its name"):
        write_flat(tmp_path / "jets.h5", jets(**columns), {}, ())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_root_takes_for_that_of_an_array_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"jets\.root: column 'tau\[2\]' cannot be written: its name"):
        write_flat(tmp_path / "jets.root", jets(**{"tau[2]": np.ones(3)}), {}, ())
    assert list(tmp_path.iterdir()) == []


def test_half_precision_becomes_single_in_root(tmp_path):
    write_flat(tmp_path / "jets.root", jets(score=np.array([0, 0.5, 1], np.float16)), {}, ())
    with uproot.open(tmp_path / "jets.root") as file:
        assert file["jets/score"].array().to_list() == [0, 0.5, 1]
