import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.tokenizers.kmeans import find_centres, nearest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 5), st.integers(0, 10**6))
def test_nearest_centres_are_those_of_all_distances(n_points, n_centres, n_dimensions, seed):
    rng = np.random.default_rng(seed)
    points, centres = rng.normal(size=(n_points, n_dimensions)), rng.normal(size=(n_centres, n_dimensions))
    distances = ((points[:, np.newaxis] - centres) ** 2).sum(-1)

    found = nearest(torch.from_numpy(points), torch.from_numpy(centres)).numpy()

    np.testing.assert_allclose(distances[np.arange(n_points), found], distances.min(1), rtol=1e-9, atol=1e-12)


def test_centres_of_separate_heaps_are_their_means():
    rng = np.random.default_rng(2)
    means = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = torch.from_numpy(np.concatenate([rng.normal(m, 0.1, (50, 2)) for m in means]))

    centres = find_centres(points, 4, seed=1).numpy()

    assert sorted(map(tuple, centres.round())) == sorted(map(tuple, means))
    ids = nearest(points.float(), torch.from_numpy(centres)).numpy()
    for number in range(4):
        np.testing.assert_allclose(centres[number], points[ids == number].mean(0), atol=1e-5)


def test_rounds_never_make_the_error_larger_and_no_centre_stays_empty():
    rng = np.random.default_rng(3)
    points = torch.from_numpy(rng.exponential(size=(3000, 3)).astype(np.float32) ** 2)
    errors = []
    for n_rounds in (0, 1, 3, 10, 60):
        centres = find_centres(points, 50, 1, n_rounds)
        ids = nearest(points, centres)
        errors.append(float(((points - centres[ids]) ** 2).sum(1).mean()))

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]
    assert len(ids.unique()) == 50


def test_the_same_seed_gives_the_same_centres():
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))

    assert torch.equal(find_centres(points, 20, 4), find_centres(points, 20, 4))
    assert not torch.equal(find_centres(points, 20, 4), find_centres(points, 20, 5))


@pytest.mark.parametrize("n_points", [1, 3])
def test_fewer_points_than_centres_are_no_obstacle(n_points):
    points = torch.arange(n_points, dtype=torch.float32).unsqueeze(1)
    centres = find_centres(points, 8, 1)

    assert torch.equal(centres[nearest(points, centres)], points)
