"""Jets that are easily told apart, and a tiny network to fine-tune."""

import pytest
from toy_jets import tiny_backbone, write_toys


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def backbone(folder):
    return tiny_backbone(folder / "backbone")


@pytest.fixture(scope="module")
def data(folder):
    return write_toys(folder / "toys.parquet")
