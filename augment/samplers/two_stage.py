"""The second stage of a two-stage VAE: a small VAE on the codes of any autoencoder (Dai and Wipf 2019, Sec. 4).

Codes fill the space that a decoder has learnt, but their law is not N(0, I). A second VAE, whose latents u have as many dimensions as the
codes, can match that law exactly (their Theorem 1), so that drawing u from N(0, I) suffices.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...datasets.common.errors import UsageError
from ..draws import normal, random_rows
from ..posterior import Posterior
from .diagnostics import Diagnostics, Tick
from .left_out import People

WIDTH = 128  # of the hidden layers; the paper's 1,024 are for 50,000 codes and more
BATCH = 256
LEARNING_RATE = 1e-3
LEAST_STD = 0.05  # of the likelihood, in standard deviations of the codes: a decoder that knows its codes by heart would go to 0
HELD_OUT = 5  # one of so many people chooses when to stop
STEPS_BETWEEN_CHECKS = 50


class SecondStage(nn.Module):
    """A VAE of standardised codes ``(n, D)``, its likelihood N(decoded, gamma^2 I) with one learnt gamma.

    Parameters
    ----------
    dim : int
        D, of the codes and of u alike.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.encoder = _perceptron(dim, 2 * dim)
        self.decoder = _perceptron(dim, dim)
        self.log_gamma = nn.Parameter(torch.zeros(()))

    def gamma(self) -> Tensor:
        """Standard deviation of the likelihood."""
        return self.log_gamma.exp().clamp(min=LEAST_STD)

    def loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Negative ELBO in nats, without log(2 pi) / 2 a dimension, averaged over ``codes``."""
        posterior = Posterior(*self.encoder(codes).chunk(2, dim=1))
        residual = (codes - self.decoder(posterior.sample(generator))) / self.gamma()
        return (0.5 * residual.square() + self.gamma().log() + posterior.kl()).sum(1).mean()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` standardised codes: u ~ N(0, I), then N(decoded, gamma^2 I)."""
        u, noise = normal((2, n, self.dim), generator, self.log_gamma)
        return self.decoder(u) + self.gamma() * noise


@dataclass(frozen=True, eq=False)
class TwoStage:
    """Codes drawn from a second VAE.

    Parameters
    ----------
    stage : SecondStage
        Trained.
    mean, std : torch.Tensor
        ``(D,)``: of the codes, which standardise them.
    """

    stage: SecondStage
    mean: Tensor
    std: Tensor

    name = "two-stage"
    n_steps = 1

    @classmethod
    @torch.enable_grad()
    def fit(
        cls, codes: Tensor, posterior: Posterior | None, *, person: Tensor | None = None, n_training_steps: int = 1000, seed: int = 0
    ) -> "TwoStage":
        """Train on codes ``(n, D)``, in their dtype, by Adam with a learning rate that falls to 0.

        It takes as many steps whatever the number of codes, each of at most 256: seconds. The weights kept are those with the best ELBO on
        the codes of a fifth of the people, held out: 50 codes are soon learnt by heart. Torch's global generator stays as it was.

        Parameters
        ----------
        codes : torch.Tensor
            Codes of the training images.
        posterior : Posterior, optional
            q(z|x) around these codes: then each step draws from it, as the paper does.
        person : torch.Tensor, optional
            ``(n,)`` whole numbers: codes with the same one are of the same person. By default each is somebody else's.
        n_training_steps : int
            At least 1.
        seed : int
            Seed of weights, batches and noise.
        """
        if n_training_steps < 1:
            raise UsageError(f"The second stage needs 1 training step or more, not {n_training_steps}.")
        mean, variance = codes.mean(dim=0), codes.var(dim=0, correction=0)
        if posterior is not None:
            variance = variance + posterior.std.square().mean(dim=0)
        std = torch.where(variance > 0, variance, 1.0).sqrt()
        generator, noise = torch.Generator(), torch.Generator()
        people = People.of(codes, person)
        order = torch.randperm(len(people), generator=generator.manual_seed(seed))
        places = order.argsort()[torch.as_tensor(people.of_codes)]  # of each code's person
        held_out, kept = places.argsort(stable=True).to(codes.device).tensor_split([int((places < len(people) // HELD_OUT).sum())])

        def draws(some: Tensor, generator: torch.Generator) -> Tensor:
            return ((codes[some] if posterior is None else posterior[some].sample(generator)) - mean) / std

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            stage = SecondStage(codes.shape[1]).to(codes)
        optimizer = torch.optim.Adam(stage.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_training_steps)
        best, least = stage, math.inf
        for step in range(1, n_training_steps + 1):
            batch = kept[random_rows(len(kept), BATCH, generator, kept)] if len(kept) > BATCH else kept
            optimizer.zero_grad()
            stage.loss(draws(batch, generator), generator).backward()
            optimizer.step()
            schedule.step()
            if len(held_out) and (step % STEPS_BETWEEN_CHECKS == 0 or step == n_training_steps):
                with torch.no_grad():
                    # The same noise every time: two checks differ by the weights alone.
                    loss = float(stage.loss(draws(held_out, noise.manual_seed(seed)), noise))
                if loss < least:
                    best, least = copy.deepcopy(stage), loss
        return cls(best.requires_grad_(False), mean, std)

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = self.mean + self.std * self.stage.sample(n, generator)
        on_iteration()
        return z, Diagnostics(self.name, n)


def _perceptron(n_inputs: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, n_outputs))
