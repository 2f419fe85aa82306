"""What models with players share.

The players of a game minimise different losses over different weights; training minimises one scalar. The sum of their losses gives each
weight its own player's gradient and no other's, if a player's loss passes through the others' networks ``frozen``, and takes what others
made detached. All players then move at once, as in Algorithm 1 of Larsen et al. 2016.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..draws import normal


def frozen(module: nn.Module) -> Callable[[Tensor], Any]:
    """``module`` as a function whose gradient reaches its input alone; batch norm computes as in ``module``, but counts nothing."""
    tensors = {name: value.detach() for name, value in module.named_parameters()}
    tensors |= {name: value.clone() for name, value in module.named_buffers()}
    return lambda x: functional_call(module, tensors, (x,))


def called_real(logits: Tensor) -> Tensor:
    """-log D averaged over the batch, in nats, of a discriminator's logits ``(n,)``.

    The discriminator's loss on real things; and, on things made, their maker's. Goodfellow et al. 2014, Sec. 3, prefer it there to
    log(1 - D), whose gradient is gone where the discriminator wins.
    """
    return -F.logsigmoid(logits).mean()


def called_made(logits: Tensor) -> Tensor:
    """-log(1 - D) averaged over the batch, in nats, of a discriminator's logits ``(n,)``."""
    return -F.logsigmoid(-logits).mean()


def draw_prior(like: Tensor, generator: torch.Generator) -> Tensor:
    """Codes from N(0, I), as many as ``like`` ``(n, D)`` has."""
    return normal(like.shape, generator, like)
