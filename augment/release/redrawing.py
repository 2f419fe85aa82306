"""Draw again what a screen refuses, until there are as many images as were asked for, or it is plain that the law itself is at fault."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from ...datasets.common.errors import GateError
from ..detail.mosaic import MOST_PIECES, Mosaic
from ..fitting.model import FittedModel
from ..samplers.latents import Sampler
from ..samplers.registry import samplers_for
from ..samplers.riemannian import Riemannian
from .screening import PIECE

ENOUGH_DRAWS = 200  # to blame the law: of fewer, more than half may be refused by chance
TOLERATED_SHARE = 0.5  # of the draws, that may be refused
FEWEST_A_ROUND = 16  # for one more image, whole chains are run: some to spare cost hardly more, and may save another round

RefusedRows = Callable[[Tensor, Tensor], Mapping[int, str]]  # from images and latents; a screening.Screen is one
Draw = Callable[[int, int], tuple[Tensor, ...]]
Mend = Callable[[Counter[str]], str]


def replace_refused(drawn: tuple[Tensor, ...], draw: Draw, screen: RefusedRows, what: str, mend: Mend) -> Counter[str]:
    """Put other draws, in place, where a screen refuses an image; what is kept stays where it is.

    Parameters
    ----------
    drawn : tuple of torch.Tensor
        The first round: images ``(n, 1, ...)``, the latents ``(n, D)`` that they were decoded from, and whatever else there is of each
        image, row for row. All are changed.
    draw : callable
        From the number of a further round, 1 and up, and a size, so many of the same.
    screen : callable
        From images and latents, why some are refused, by row.
    what : str
        Whose images they are, for the error: ``images of AD that gaussian drew``.
    mend : callable
        From how many were refused by reason to the sentence of the error that says what a user can do about it.

    Returns
    -------
    Counter
        Number of refused images by reason: with the n that are kept, all that were drawn. The last round ends with the last image
        needed.

    Raises
    ------
    GateError
        If more than half are refused, of 200 or more.
    """
    n = len(drawn[0])
    reasons = screen(*drawn[:2])
    refused, lacking = Counter(reasons.values()), sorted(reasons)
    for round_ in itertools.count(1):
        n_drawn = n - len(lacking) + refused.total()
        if n_drawn >= ENOUGH_DRAWS and refused.total() > TOLERATED_SHARE * n_drawn:
            raise GateError(_too_many(refused, n_drawn, what, mend(refused)))
        if not lacking:
            break
        more = draw(round_, _size_of_round(len(lacking), n_drawn, refused.total()))
        reasons = screen(*more[:2])
        kept = [row for row in range(len(more[0])) if row not in reasons][: len(lacking)]
        filled, lacking = lacking[: len(kept)], lacking[len(kept) :]
        for part, of_more in zip(drawn, more, strict=True):
            part[filled] = of_more[kept]
        n_seen = len(more[0]) if lacking else kept[-1] + 1
        refused.update(reason for row, reason in reasons.items() if row < n_seen)
    return refused


def _size_of_round(lacking: int, drawn: int, refused: int) -> int:
    """So many that they probably suffice or, where most were refused, that it is soon plain whether they ever will."""
    needed = math.ceil(lacking / max(1 - refused / drawn, 1 - TOLERATED_SHARE))
    undecided = min(drawn, ENOUGH_DRAWS - drawn) if refused > TOLERATED_SHARE * drawn else 0
    return max(needed, undecided, FEWEST_A_ROUND)


def _too_many(refused: Counter[str], drawn: int, what: str, mend: str) -> str:
    reasons = "; ".join(f"{count} as {reason}" for reason, count in refused.most_common())
    return f"{refused.total()} of {drawn} {what} were refused ({reasons}), where {TOLERATED_SHARE:.0%} may: nothing is written. {mend}"


def what_to_change(model: FittedModel, law: Sampler, mosaic: Mosaic | None, refused: Counter[str]) -> str:
    """What a user can do about too many copies: smaller pieces of people, if images have a mosaic of them and these are at fault; else the
    samplers that serve the model, and how its latents would spread."""
    if mosaic and refused[PIECE] > refused.total() / 2 and 2 * mosaic.pieces <= MOST_PIECES:
        finer = replace(mosaic, pieces=2 * mosaic.pieces)
        return f"Another --seed will not help; choose more and smaller pieces of people (--detail '{finer}'), or --detail none."
    scores = {scored.sampler: scored.left_out for scored in model.law_scores.laws}
    others = [name for name in samplers_for(type(model.autoencoder)) if name != law.name]
    told = [name if (score := scores.get(name)) is None else f"{name} {score:.3g}" for name in others]
    changes = [f"another --sampler ({', '.join(told)}: nats for people left out, more are better)"]
    if isinstance(law, Riemannian):  # of a number as its reach; the manifold that holds people left out is broader
        changes.append("--set reach=auto (which takes no setting of a chain)")
    return f"Another --seed will not help; choose {', '.join(changes)}, or train the model with more --jitter."
