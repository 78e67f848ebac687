import os

import numpy as np
from scipy import stats

from hepfm.resim.detector.compiled import forget_stale
from hepfm.resim.detector.random_numbers import (
    log_normal,
    next_word,
    normal,
    random_states,
    splitmix64,
    uniform,
)
from hepfm.resim.generator import detector_seeds

N = 50_000


def _stream(seed=2024):
    return random_states(np.array([seed], np.uint64))[0]


def _sample(draw, *arguments):
    stream = _stream()
    return np.array([draw(stream, *arguments) for _ in range(N)])


def test_splitmix64_gives_its_published_output():
    # Seed 1234567; the values of https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    mask = 2**64 - 1
    counters = [np.uint64((1234567 + i * 0x9E3779B97F4A7C15) & mask) for i in range(1, 5)]
    assert [int(splitmix64(counter)) for counter in counters] == published


def test_streams_are_seeded_by_successive_words_of_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert _stream(1234567).tolist() == published


def test_xoshiro256plusplus_gives_its_published_output():
    # State 1, 2, 3, 4; the test vector of the rand_xoshiro crate, made with the authors' C code.
    published = [
        *(41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205),
        *(9973669472204895162, 14011001112246962877, 12406186145184390807, 15849039046786891736),
    ]
    stream = np.array([1, 2, 3, 4], np.uint64)
    assert [int(next_word(stream)) for _ in published] == published


def test_uniform_deviates_are_uniform_and_never_0_or_1():
    sample = _sample(uniform)
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    assert sample.min() > 0.0 and sample.max() < 1.0
    assert stats.kstest(np.add(*sample.reshape(2, -1)) / 2, stats.triang(0.5).cdf).pvalue > 1e-3


def test_normal_deviates_are_normal():
    sample = _sample(normal)
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert abs(sample.mean()) < 4 / np.sqrt(N)
    assert abs(sample.std() - 1) < 4 / np.sqrt(2 * N)
    assert abs(stats.kurtosis(sample)) < 4 * np.sqrt(24 / N)
    assert abs(stats.pearsonr(sample[:-1], sample[1:]).statistic) < 4 / np.sqrt(N)


def test_log_normal_deviates_have_the_given_mean_and_width():
    mean, sigma = 20.0, 5.0
    sample = _sample(log_normal, mean, sigma)
    width = np.sqrt(np.log(1 + (sigma / mean) ** 2))
    assert stats.kstest(sample, stats.lognorm(width, scale=mean * np.exp(-(width**2) / 2)).cdf).pvalue > 1e-3
    assert abs(sample.mean() - mean) < 4 * sigma / np.sqrt(N)
    assert abs(sample.std() - sigma) < 0.03 * sigma


def test_log_normal_of_nothing_is_nothing():
    assert log_normal(_stream(), 0.0, 1.0) == 0.0
    assert log_normal(_stream(), -1.0, 1.0) == 0.0


def test_neighbouring_seeds_give_unrelated_streams():
    states = random_states(np.arange(N, dtype=np.uint64))
    sample = np.array([normal(state) for state in states])
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert abs(stats.pearsonr(sample[:-1], sample[1:]).statistic) < 4 / np.sqrt(N)


def test_events_that_follow_one_another_have_unrelated_numbers():
    n_events, n_draws = 10_000, 12
    states = random_states(detector_seeds(1, "nominal", np.arange(n_events)))
    drawn = np.array([[normal(state) for _ in range(n_draws)] for state in states])
    for lag in (1, 2, 3):
        for power in (1, 2):
            first, second = stats.zscore(drawn[:-lag] ** power), stats.zscore(drawn[lag:] ** power)
            correlation = first.T @ second / len(first)
            # The largest of 144: beyond 5 standard deviations by chance in one of 10,000 such tables.
            assert np.abs(correlation).max() < 5 / np.sqrt(len(first))


def test_what_was_compiled_before_a_source_changed_is_forgotten(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name, time in (("a.py", 100), ("b.py", 300), ("__pycache__/a.f.nbi", 200), ("__pycache__/b.g.nbi", 400)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    forget_stale(tmp_path)
    assert [path.name for path in cache.iterdir()] == ["b.g.nbi"]
    forget_stale(tmp_path / "nowhere")
