"""One random stream an event: xoshiro256++, seeded through splitmix64.

A stream is four 64-bit words. It belongs to one event and is carried from step to step of the simulation,
so what an event becomes does not depend on the events beside it.

Source: D. Blackman and S. Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47 (2021) 36,
with the public-domain reference code at https://prng.di.unimi.it (xoshiro256plusplus.c, splitmix64.c).
"""

import math

import numpy as np

from hepfm.resim.detector.compiled import RandomStates, compiled, inlined

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@inlined
def splitmix64(counter: np.uint64) -> np.uint64:
    """Mix the bits of a counter that moves on by 0x9E3779B97F4A7C15 at each draw."""
    z = np.uint64(counter)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@compiled
def random_states(seeds: RandomStates) -> RandomStates:
    """Start one stream a seed.

    Args:
        seeds: one 64-bit seed an event, shape (E,).

    Returns:
        The streams, shape (E, 4).
    """
    states = np.empty((len(seeds), 4), np.uint64)
    for i in range(len(seeds)):
        counter = np.uint64(seeds[i])
        for word in range(4):
            counter += _GOLDEN
            states[i, word] = splitmix64(counter)
    return states


@inlined
def next_word(stream: RandomStates) -> np.uint64:
    """Draw 64 random bits; `stream`, shape (4,), moves on in place."""
    s0, s1, s2, s3 = stream[0], stream[1], stream[2], stream[3]
    total = s0 + s3
    word: np.uint64 = ((total << np.uint64(23)) | (total >> np.uint64(41))) + s0
    shifted = s1 << np.uint64(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = (s3 << np.uint64(45)) | (s3 >> np.uint64(19))
    stream[0], stream[1], stream[2], stream[3] = s0, s1, s2, s3
    return word


@inlined
def uniform(stream: RandomStates) -> float:
    """Draw from the open interval (0, 1), in steps of 2^-52."""
    return (float(next_word(stream) >> np.uint64(12)) + 0.5) * 2.0**-52


@inlined
def normal(stream: RandomStates) -> float:
    """Draw a standard normal deviate (Box and Muller's transform; always two words)."""
    radius = math.sqrt(-2.0 * math.log(uniform(stream)))
    return radius * math.cos(2.0 * math.pi * uniform(stream))


@inlined
def log_normal(stream: RandomStates, mean: float, sigma: float) -> float:
    """Draw from the log-normal law of this mean and standard deviation; 0 if the mean is not positive."""
    if not mean > 0.0:
        return 0.0
    width = math.sqrt(math.log1p((sigma / mean) ** 2))
    return mean * math.exp(width * normal(stream) - 0.5 * width * width)
