"""The node's network: a study's network whose every result is a function of one row alone.

It computes with :mod:`polyclinic_common.rowwise`, forward and backward, and tells Opacus how
to take the gradient of every patient. Nothing here adds up over patients: parameters get no
gradient of the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polyclinic_common.models.torch_head import ResponseNetwork
from polyclinic_common.rowwise import Floats, row_sums, tanh, weighted_sums


class RowLinear(nn.Linear):
    """A linear layer: weighted sums of a row, in a fixed order."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Return what the layer gives for rows of shape (B, in): shape (B, out)."""
        found: Tensor = _WeightedSums.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return found


class RowTanh(nn.Module):
    """The hyperbolic tangent of every number."""

    def forward(self, values: Tensor) -> Tensor:
        """Return numbers of the same shape."""
        found: Tensor = _Tanh.apply(values)  # type: ignore[no-untyped-call]
        return found


class RowNetwork(ResponseNetwork):
    """Score network and baseline; see `ResponseNetwork`."""

    linear = RowLinear
    activation = RowTanh

    def spread(self, score: Tensor, outputs: int) -> Tensor:
        """Return the score, shape (B, 1), for every output: shape (B, K)."""
        found: Tensor = _Spread.apply(score, outputs)  # type: ignore[no-untyped-call]
        return found


class _WeightedSums(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        found = weighted_sums(_numbers(rows), _numbers(weight))
        if bias is not None:
            found += _numbers(bias)
        return torch.from_numpy(found)

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, None, None]:
        if not context.needs_input_grad[0]:
            return None, None, None
        (weight,) = context.saved_tensors
        return torch.from_numpy(weighted_sums(_numbers(slope), _numbers(weight).T)), None, None


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        found = torch.from_numpy(tanh(_numbers(values)))
        context.save_for_backward(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> Tensor:
        found = _numbers(context.saved_tensors[0])
        return torch.from_numpy(_numbers(slope) * (1.0 - found * found))


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, score: Tensor, outputs: int) -> Tensor:
        return score.repeat(1, outputs)

    @staticmethod
    @once_differentiable
    def backward(_: Any, slope: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(row_sums(_numbers(slope))[:, None]), None


@register_grad_sampler(RowLinear)  # type: ignore[untyped-decorator]
def _patient_gradients(
    layer: RowLinear, activations: list[Tensor], slope: Tensor
) -> dict[Tensor, Tensor]:
    """Return every patient's gradient of weight (B, out, in) and bias (B, out): plain products."""
    at_output, read = _numbers(slope), _numbers(activations[0])
    found: dict[Tensor, Tensor] = {
        layer.weight: torch.from_numpy(at_output[:, :, None] * read[:, None, :])
    }
    if layer.bias is not None:
        found[layer.bias] = slope
    return found


def _numbers(values: Tensor) -> Floats:
    found: Floats = values.detach().numpy()
    return found
