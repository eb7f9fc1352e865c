"""An item tower and a sequence network joined on one seam: item vectors in, user vectors out.

The same vectors are read by the network and scored against its output (shared item embedding, Kang &
McAuley, section III-C), so a bundle needs one matrix per backbone.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.networks.item_tower import ItemTower
from models.networks.sasrec import SASRec


class Recommender(nn.Module):
    """SASRec when the tower is an id table, MoRec when it reads contents."""

    def __init__(self, tower: ItemTower, network: SASRec) -> None:
        super().__init__()
        self.tower = tower
        self.network = network

    def forward(self, histories: Tensor) -> Tensor:
        """Scores of the whole catalogue after each history.

        Args:
            histories: item rows int64 [B, n], oldest first, 1 <= n <= L, no padding.

        Returns:
            float [B, items].
        """
        vectors = self.tower.all()  # [items, d]
        users: Tensor = self.network.last(vectors[histories])  # [B, d]
        return users @ vectors.T
