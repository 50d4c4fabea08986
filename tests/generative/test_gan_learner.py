"""The game of generator and discriminator, against loops written by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from skmeta.core.tasks import RealRows
from skmeta.generative._gan_learner import GANLearner, discriminator_loss, generator_loss
from skmeta.nets import mlp
from skmeta.training import RowStream


def learner(*, conv=False, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # LayerNorm: a module that the fast path for plain stacks does not take.
        middle = [nn.LayerNorm(7)] if conv else []
        generator = nn.Sequential(nn.Linear(3, 7), *middle, nn.LeakyReLU(0.2), nn.Linear(7, 5))
        game = GANLearner(
            generator,
            mlp([5, 6, 1], "leaky_relu"),
            **{
                "latent_size": 3,
                "penalty": 2.5,
                "averaging": 0.9,
                "inner_lr": 0.01,
                "n_inner_steps": 4,
                "inner_batch_size": 3,
                **changes,
            },
        )
    return game.double()


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_discriminator_loss(net, real, fake, penalty):
    """One task, row by row."""
    losses = []
    for r, f in zip(real, fake, strict=True):
        r, f = r.clone().requires_grad_(), f.clone().requires_grad_()
        a, b = net(r[None])[0, 0], net(f[None])[0, 0]
        (at_r,) = torch.autograd.grad(a, r, create_graph=True)
        (at_f,) = torch.autograd.grad(b, f, create_graph=True)
        slopes = (at_r**2).sum() + (at_f**2).sum()
        losses.append(torch.log1p(torch.exp(b - a)) + penalty / 2 * slopes)
    return torch.stack(losses).mean()


def test_losses_equal_a_loop_over_rows():
    game, real, fake = learner(), rows(1, 6, 5), rows(1, 6, 5, seed=1)
    weights = list(game.discriminator.parameters())
    ours = discriminator_loss(game._score, real, fake, 2.5)[0]
    naive = naive_discriminator_loss(game.discriminator, real[0], fake[0], 2.5)
    torch.testing.assert_close(ours, naive, rtol=1e-10, atol=0)
    pairs = zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(naive, weights), strict=True
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
    scores = [game.discriminator(x[0])[:, 0] for x in (real, fake)]
    expected = F.softplus(scores[0] - scores[1]).mean()
    torch.testing.assert_close(generator_loss(game._score, real, fake)[0], expected)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("n_tasks", [1, 3])
def test_tasks_play_as_they_would_alone_with_adam(n_tasks, conv):
    game, real = learner(conv=conv), rows(n_tasks, 7, 5)
    ends, losses = game.adapt_players(real, torch.Generator().manual_seed(5), 4)
    # The same codes, drawn in the same order.
    noise = torch.Generator().manual_seed(5)
    codes = [torch.randn(n_tasks, 3, 3, generator=noise).double() for _ in range(4)]
    last = []
    for t in range(n_tasks):
        alone = learner(conv=conv)
        players = {n: getattr(alone, n) for n in ("discriminator", "generator")}
        adams = {
            n: torch.optim.Adam(p.parameters(), lr=0.01, betas=(0.0, 0.99))
            for n, p in players.items()
        }
        for step in range(4):
            own = real[t][[(3 * step + i) % 7 for i in range(3)]]
            fake = players["generator"](codes[step][t])
            loss = naive_discriminator_loss(players["discriminator"], own, fake.detach(), 2.5)
            adams["discriminator"].zero_grad()
            loss.backward()
            adams["discriminator"].step()
            scores = players["discriminator"](own)[:, 0].detach()
            loss = F.softplus(scores - players["discriminator"](fake)[:, 0]).mean()
            adams["generator"].zero_grad()
            loss.backward()
            adams["generator"].step()
        last.append(loss.detach())
        for name, player in players.items():
            for key, value in player.named_parameters():
                torch.testing.assert_close(ends[name][key][t], value, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(losses["generator"], torch.stack(last).mean())


def test_reptile_moves_the_start_towards_the_mean_of_where_tasks_end():
    game, real = learner(), rows(3, 5, 5)
    game.by_task, game.progress = True, 0.75  # half of the way through the part with tasks
    before = {n: p.detach().clone() for n, p in game.generator.named_parameters()}
    ends, _ = game.adapt_players(real, torch.Generator().manual_seed(2), 4)
    average = {n: p.clone() for n, p in game.average.named_parameters()}
    played = list(game.play(RealRows(real), torch.Generator().manual_seed(2)))
    assert [name for name, _ in played] == ["discriminator", "generator"]
    assert not any(loss.requires_grad for _, loss in played)
    for name, p in game.generator.named_parameters():
        end = ends["generator"][name].mean(0)
        torch.testing.assert_close(p, before[name] + 0.25 * (end - before[name]))
    for name, p in game.average.named_parameters():  # samples of all tasks stay as they were
        torch.testing.assert_close(p, average[name])


def test_the_average_follows_the_generator():
    game = learner()
    mean = [p.clone() for p in game.average.parameters()]
    for n in range(1, 5):
        with torch.no_grad():
            for p in game.generator.parameters():
                p.add_(1.0)
        game._move_average()
        stays = min(0.9, n / (n + 10))
        mean = [
            stays * m + (1 - stays) * p
            for m, p in zip(mean, game.generator.parameters(), strict=True)
        ]
        for a, b in zip(game.average.parameters(), mean, strict=True):
            torch.testing.assert_close(a, b.detach())


def test_an_epoch_of_rows_takes_each_equally_often():
    x = torch.arange(40.0)[:, None]
    stream = RowStream(x, None, 4, 1, torch.Generator().manual_seed(0))
    seen = torch.cat([batch.x[0, :, 0] for batch in stream]).long()
    counts = np.bincount(seen, minlength=40)
    assert len(stream) == 20 and counts.min() == counts.max() == 2


def test_batches_of_tasks_hold_rows_of_their_own_task_only():
    sizes = torch.tensor([1, 3, 50])
    x = torch.repeat_interleave(torch.arange(3.0), sizes)[:, None]
    x = torch.cat([x, torch.arange(54.0)[:, None]], 1)
    for batch in RowStream(x, sizes, 8, 2, torch.Generator().manual_seed(0)):
        assert batch.x.shape == (2, 8, 2) and batch.n_tasks == 2
        for task in batch.x:
            assert len(task[:, 0].unique()) == 1
            assert len(task[:, 1].unique()) == min(8, int(sizes[int(task[0, 0])]))
