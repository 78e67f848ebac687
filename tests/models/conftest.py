import pytest
from network_samples import KINDS, make


@pytest.fixture(params=KINDS)
def backbone(request):
    return make(request.param)
