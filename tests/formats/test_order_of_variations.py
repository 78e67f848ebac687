from functools import partial

import numpy as np
import pytest
from jet_tables import jet_table

import hepfm
from hepfm.formats.omnilearned import write_omnilearned
from hepfm.formats.padded import write_padded
from hepfm.formats.parquet import write_parquet
from hepfm.formats.root import write_root
from hepfm.table import JetTable

NAMES = ("nominal", "fsr-up", "cp5")
WRITERS = {
    "jets.parquet": partial(write_parquet, metadata={}),
    "jets.root": write_root,
    "padded.h5": write_padded,
    "omnilearned.h5": write_omnilearned,
}


@pytest.mark.parametrize("name", WRITERS)
def test_variations_of_one_file_keep_their_order(tmp_path, name):
    """The first one is asked where labels are read: the nominal one, whatever the others are called."""
    table = JetTable.concatenate([jet_table(seed, 10, variation, seed) for seed, variation in enumerate(NAMES)])
    WRITERS[name](tmp_path / name, [table])
    data = hepfm.open(tmp_path / name)
    assert data.variations == NAMES
    assert data.read_table(["variation"]).columns["variation"].tolist() == np.repeat(NAMES, 10).tolist()
