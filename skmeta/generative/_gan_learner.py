"""A generator and a discriminator, and how they play: on all rows, or on many tasks at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.forward import Weights, make_forward
from skmeta.core.inner import Layout
from skmeta.core.tasks import RealRows

Score = Callable[[Tensor], Tensor]  # (T, n, n_features) -> (T, n)
# With tasks, the share of training that takes their rows together: a start from which a game can be
# played at all is learned faster so.
POOLED_SHARE = 0.5
# How far the start moves to where tasks end, at first; it falls to zero.
META_STEP = 0.5
# Of the inner optimiser, which is Adam as for the outer players.
BETA, EPSILON = 0.99, 1e-8


def discriminator_loss(score: Score, real: Tensor, fake: Tensor, penalty: float) -> Tensor:
    """Relativistic logistic loss with a penalty on slopes, one a task (Huang et al., 2024).

    Real and generated rows are compared in pairs, so that a generator that leaves out a kind of
    rows never reaches the end of the game. The penalties hold slopes at both kinds of rows near
    zero, without which the players circle around the solution.
    """
    real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
    of_real, of_fake = score(real), score(fake)
    slopes = torch.autograd.grad(of_real.sum() + of_fake.sum(), (real, fake), create_graph=True)
    steepness = sum(slope.square().sum(2) for slope in slopes)
    return (F.softplus(of_fake - of_real) + penalty / 2 * steepness).mean(1)


def generator_loss(score: Score, real: Tensor, fake: Tensor) -> Tensor:
    """The same comparison with the labels exchanged, one a task."""
    with torch.no_grad():
        of_real = score(real)
    return F.softplus(of_real - score(fake)).mean(1)


class GANLearner(nn.Module):
    """The two players, and a moving average of the generator that samples are drawn from.

    Parameters
    ----------
    generator : Module
        From codes (n, latent_size) to rows.
    discriminator : Module
        From rows to one score each.
    latent_size : int
        Numbers in a code.
    penalty : float
        Weight of the penalty on the discriminator's slopes.
    averaging : float
        How much of the average stays at a step.
    inner_lr, n_inner_steps, inner_batch_size
        How a task plays from the common start: rate, steps, rows a step.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_size: int,
        penalty: float,
        averaging: float,
        inner_lr: float,
        n_inner_steps: int,
        inner_batch_size: int,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.average = copy.deepcopy(generator).requires_grad_(False)
        self.n_steps: Tensor
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))
        self.latent_size = latent_size
        self.penalty = penalty
        self.averaging = averaging
        self.inner_lr = inner_lr
        self.n_inner_steps = n_inner_steps
        self.inner_batch_size = inner_batch_size
        self.by_task = False
        self.progress = 0.0
        self._forward = {
            "generator": make_forward(generator),
            "discriminator": make_forward(discriminator),
        }

    def play(self, batch: RealRows, noise: Generator) -> Iterator[tuple[str, Tensor]]:
        """Both players' losses, one after the other.

        With tasks (some rows of each), the first part of training takes their rows together, and
        the rest moves the start: what is yielded then asks for no further step.
        """
        if self.by_task and self.progress >= POOLED_SHARE:
            yield from self._reptile(batch.x, noise)
            return
        real = batch.x.flatten(0, 1).unsqueeze(0)
        fake = self._rows(self.generator, self._codes(real, noise))
        yield "discriminator", discriminator_loss(self._score, real, fake, self.penalty)[0]
        yield "generator", generator_loss(self._score, real, fake)[0]
        self._move_average()

    def generate(self, weights: Weights, codes: Tensor) -> Tensor:
        """Rows (T, n, n_features) of the codes (T, n, latent_size), under every task's weights."""
        return self._run("generator", weights, codes)

    def _codes(self, real: Tensor, noise: Generator) -> Tensor:
        shape = (*real.shape[:2], self.latent_size)
        return torch.randn(shape, generator=noise).to(real)

    def _rows(self, generator: nn.Module, codes: Tensor) -> Tensor:
        return generator(codes.flatten(0, 1)).reshape(*codes.shape[:2], -1)

    def _score(self, rows: Tensor) -> Tensor:
        return self.discriminator(rows.flatten(0, 1)).reshape(rows.shape[:2])

    @torch.no_grad()
    def _move_average(self) -> None:
        self.n_steps += 1
        n = int(self.n_steps)
        stays = min(self.averaging, n / (n + 10))  # the first generators are worth little
        for mean, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now.to(mean), 1 - stays)

    # ---------------------------------------------------------------- tasks

    @torch.no_grad()
    def _reptile(self, real: Tensor, noise: Generator) -> Iterator[tuple[str, Tensor]]:
        """Move the start towards where tasks end (Nichol et al., 2018), for both players."""
        left = (1 - self.progress) / (1 - POOLED_SHARE)
        ends, losses = self.adapt_players(real, noise, self.n_inner_steps)
        for player in ("discriminator", "generator"):
            for name, start in getattr(self, player).named_parameters():
                start.lerp_(ends[player][name].mean(0), META_STEP * left)
            yield player, losses[player]

    def adapt_players(
        self, real: Tensor, noise: Generator, n_steps: int
    ) -> tuple[dict[str, Weights], dict[str, Tensor]]:
        """Let every task play from the common start (Clouatre and Demers, 2019).

        Parameters
        ----------
        real : Tensor of shape (T, n, n_features)
            Rows of every task.
        noise : Generator
            The source of randomness.
        n_steps : int
            How many steps each player takes.

        Returns
        -------
        weights : dict of dict of name to Tensor of shape (T, ...)
            Both players' weights of every task.
        losses : dict of Tensor
            Both players' mean losses at the last step.
        """
        players = {
            name: TasksAdam(dict(getattr(self, name).named_parameters()), len(real), self.inner_lr)
            for name in ("discriminator", "generator")
        }
        losses = {}
        for step in range(n_steps):
            rows = _batch_of(real, step, self.inner_batch_size, noise)
            codes = self._codes(rows, noise)
            with torch.enable_grad():
                weights = players["discriminator"].weights()
                with torch.no_grad():
                    fake = self._run("generator", players["generator"].weights(), codes)
                loss = discriminator_loss(
                    lambda x: self._run("discriminator", weights, x)[..., 0],  # noqa: B023
                    rows,
                    fake,
                    self.penalty,
                )
                players["discriminator"].step(loss.sum())
                losses["discriminator"] = loss.detach().mean()
                weights = players["discriminator"].weights()
                fake = self._run("generator", players["generator"].weights(), codes)
                loss = generator_loss(
                    lambda x: self._run("discriminator", weights, x)[..., 0],  # noqa: B023
                    rows,
                    fake,
                )
                players["generator"].step(loss.sum())
                losses["generator"] = loss.detach().mean()
        return {name: player.weights(detached=True) for name, player in players.items()}, losses

    def _run(self, player: str, weights: Weights, x: Tensor) -> Tensor:
        return self._forward[player](weights, x)[0]


class TasksAdam:
    """Adam without momentum on the weights of many tasks, each with its own.

    Parameters
    ----------
    start : dict of name to Tensor
        Where all tasks start.
    n_tasks : int
        How many there are.
    lr : float
        Rate.
    own : dict of name to Tensor of shape (n_tasks, ...) or None, default=None
        Weights that every task starts from a place of its own.
    """

    def __init__(
        self,
        start: Mapping[str, Tensor],
        n_tasks: int,
        lr: float,
        own: dict[str, Tensor] | None = None,
    ) -> None:
        own = own or {}
        self._layout = Layout({**start, **{name: value[0] for name, value in own.items()}})
        shared = Layout(start).join(start).detach().expand(n_tasks, -1)
        parts = [value.detach().reshape(n_tasks, -1) for value in own.values()]
        self._flat = torch.cat([shared, *parts], 1).clone().requires_grad_()
        self._square = torch.zeros_like(self._flat)
        self._lr = lr
        self._n = 0

    def weights(self, *, detached: bool = False) -> Weights:
        return self._layout.split(self._flat.detach() if detached else self._flat)

    def step(self, loss: Tensor) -> None:
        # One gradient of the sum gives each task its own: tasks do not share weights here.
        (gradient,) = torch.autograd.grad(loss, self._flat)
        self._n += 1
        self._square = BETA * self._square + (1 - BETA) * gradient.square()
        scale = (self._square / (1 - BETA**self._n)).sqrt() + EPSILON
        self._flat = (self._flat.detach() - self._lr * gradient / scale).requires_grad_()


def _batch_of(real: Tensor, step: int, size: int, noise: Generator) -> Tensor:
    """The rows of a step: going round in each task's."""
    n = real.shape[1]
    if n <= size:
        return real
    place = (step * size + torch.arange(size)) % n
    return real[:, place.to(real.device)]
