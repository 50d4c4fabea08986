"""Compressed sensing using generative models (Bora et al., 2017): our own, for comparison."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

N_STEPS, N_RESTARTS, LR, WEIGHT = 1000, 10, 0.01, 0.1


class VAE(nn.Module):
    """The paper's: 784-500-500-20 and back, trained on the usual bound with Bernoulli pixels."""

    def __init__(self, n_pixels, latent=20, width=500):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Linear(n_pixels, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(),
            nn.Linear(width, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(),
            nn.Linear(width, n_pixels),
        )  # fmt: skip

    def forward(self, z):
        """Images of codes."""
        return torch.sigmoid(self.decoder(z))

    def bound(self, x):
        """Mean negative evidence lower bound of images, in nats."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        fit = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)
        kl = (mean.square() + log_var.exp() - 1 - log_var).sum(1) / 2
        return (fit + kl).mean()


def train_vae(X, *, n_epochs=150, seed=0):
    """A VAE and its bound on a tenth of the images that was left out: it stops at the best."""
    torch.manual_seed(seed)
    x = torch.tensor(X).float()
    held, x = x[: len(x) // 10], x[len(x) // 10 :]
    vae = VAE(X.shape[1])
    adam = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_epochs)
    best, kept = np.inf, None
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x)).split(100):
            adam.zero_grad()
            vae.bound(x[rows]).backward()
            adam.step()
        falling.step()
        with torch.no_grad():
            bound = float(vae.bound(held))
        if bound < best:
            best, kept = bound, copy.deepcopy(vae)
    return kept.requires_grad_(False), best


class CSGM:
    """Codes by Adam from random starts; of each image's the one with the least objective.

    Parameters
    ----------
    generator : callable
        From training images to a function of codes and their size.
    """

    def __init__(self, generator):
        self.generator = generator

    def fit(self, X):
        """Learn from clean images."""
        self.decode_, self.latent_ = self.generator(X)
        return self

    def adapt(self, *, operator, noise_std):
        """Return what takes measurements of the operator."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, operator=operator)
        return new

    def predict(self, Y):
        """Images from measurements; all images and restarts in one batch."""
        generator = torch.Generator().manual_seed(0)
        A = torch.tensor(self.operator.matrix).float()
        y = torch.tensor(Y).float().repeat_interleave(N_RESTARTS, 0)
        z = torch.randn(len(y), self.latent_, generator=generator).requires_grad_()
        adam = torch.optim.Adam([z], lr=LR, fused=True)
        for _ in range(N_STEPS):
            adam.zero_grad()
            self._objective(z, y, A).sum().backward()
            adam.step()
        with torch.no_grad():
            left = self._objective(z, y, A).reshape(-1, N_RESTARTS)
            best = left.argmin(1) + N_RESTARTS * torch.arange(len(left))
            return self.decode_(z[best]).clamp(0, 1).double().numpy()

    def _objective(self, z, y, A):
        """The paper's: squared misfit plus a tenth of the squared code."""
        return (y - self.decode_(z) @ A.T).square().sum(1) + WEIGHT * z.square().sum(1)
