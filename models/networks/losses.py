"""Computes next-item losses: softmax over all items or shared sampled ones, and binary cross-entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def full_softmax(states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """Computes the cross-entropy over the whole catalogue.

    Args:
        states: user vectors [P, d].
        vectors: item vectors [items, d].
        targets: item rows of the next items, int64 [P].

    Returns:
        The mean loss, in nats.
    """
    return functional.cross_entropy(states @ vectors.T, targets)


def sampled_softmax(
    states: Tensor, positives: Tensor, negatives: Tensor, same: Tensor, items: int, log_q: bool
) -> Tensor:
    """Computes the cross-entropy of the target against K uniformly drawn negatives shared by all positions.

    Sharing turns P small products into one matrix product. With ``log_q`` each negative counts for the
    (items - 1) / K items that it stands for, which makes the partition function unbiased (Bengio & Senécal,
    2008).

    Args:
        states: user vectors [P, d].
        positives: vectors of the next items [P, d].
        negatives: vectors of the negatives [K, d].
        same: bool [P, K], True where a negative is the position's own target; it is left out.
        items: size of the catalogue.
        log_q: True corrects for sampling.

    Returns:
        The mean loss, in nats.
    """
    positive = (states * positives).sum(-1, keepdim=True)  # [P, 1]
    negative = (states @ negatives.T).masked_fill(same, float("-inf"))  # [P, K]
    if log_q:
        negative = negative + math.log((items - 1) / len(negatives))
    first = torch.zeros(len(states), dtype=torch.int64, device=states.device)
    # The positive is column 0 of every position: [P, 1 + K].
    return functional.cross_entropy(torch.cat([positive, negative], dim=1), first)


def binary_cross_entropy(states: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Computes the binary cross-entropy of each target and of one negative of its own.

    The sum of both means (Kang & McAuley, equation 7; IDvs.MoRec's code).

    Args:
        states: user vectors [P, d].
        positives: vectors of the next items [P, d].
        negatives: vectors of the negatives [P, d].

    Returns:
        The mean loss of a position, in nats.
    """
    positive = (states * positives).sum(-1)  # [P]
    negative = (states * negatives).sum(-1)  # [P]
    # -log σ(s) is softplus(-s), and -log(1 - σ(s)) is softplus(s).
    return functional.softplus(-positive).mean() + functional.softplus(negative).mean()
