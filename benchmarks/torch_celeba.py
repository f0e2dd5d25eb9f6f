"""The face model's training step in PyTorch, as its good users write it: channels_last, compiled where that works.

Run by `celeba_train.py` in an environment of its own (`requirements-bench.txt`). Reads the number of steps to take from
stdin, a line each, and answers with the seconds they took.
"""

import itertools
import sys
import time

import torch
from torch import nn

BATCH, LATENT, WEIGHT = int(sys.argv[1]), 200, 2000.0


class FaceVAE(nn.Module):
    """The report's network."""

    def __init__(self):
        super().__init__()
        channels = [3, 32, 64, 64, 64]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2) for i, o in itertools.pairwise(channels))
        self.mean, self.log_var = nn.Linear(4096, LATENT), nn.Linear(4096, LATENT)
        self.base = nn.Linear(LATENT, 4096)
        channels = [64, 64, 64, 32, 3]
        self.transposed = nn.ModuleList(nn.ConvTranspose2d(i, o, 3, stride=2) for i, o in itertools.pairwise(channels))

    def forward(self, x):
        for layer in self.convolutions:
            x = nn.functional.leaky_relu(layer(nn.functional.pad(x, (0, 1, 0, 1))), 0.3)
        x = x.flatten(1)
        mean, log_var = self.mean(x), self.log_var(x)
        z = mean + torch.exp(log_var / 2) * torch.randn_like(mean)
        x = self.base(z).view(-1, 64, 8, 8).contiguous(memory_format=torch.channels_last)
        for i, layer in enumerate(self.transposed):
            x = layer(x)[:, :, :-1, :-1]
            x = nn.functional.leaky_relu(x, 0.3) if i < 3 else torch.sigmoid(x)
        return x, mean, log_var


def main() -> None:
    torch.manual_seed(0)
    model = FaceVAE().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    data = torch.randint(0, 256, (4 * BATCH, 3, 128, 128), dtype=torch.uint8)
    data = data.contiguous(memory_format=torch.channels_last)

    def loss_of(batch):
        x = batch.to(torch.float32) / 255
        reconstruction, mean, log_var = model(x)
        rmse = (x - reconstruction).square().mean((1, 2, 3)).sqrt()
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
        return (WEIGHT * rmse + kl).mean()

    how = "eager"
    if "--compile" in sys.argv:
        loss_of, how = torch.compile(loss_of), "torch.compile"

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss_of(data[torch.randperm(len(data))[:BATCH]].contiguous(memory_format=torch.channels_last)).backward()
        optimizer.step()

    step()
    print(f"torch {torch.__version__} {how}", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
