"""Jets that tokenizers are tested on."""

import pytest

import hepfm


@pytest.fixture(scope="session")
def jets(small_campaign):
    """A table of some hundred jets with all columns."""
    return hepfm.open(small_campaign[1]).read_table(variation="quick")
