"""The face model in PyTorch: training and generating, as good PyTorch users write them.

channels_last throughout, uint8 pictures on the device, one permutation per epoch, fused Adam, nothing read back before
the end. Its convolutions pad on the opposite side from ours (PyTorch has no SAME for stride 2): the same model,
mirrored.
"""

import itertools

import numpy as np
import torch
from serve import serve, task
from torch import nn
from torch.nn import functional
from torch_tools import DEVICE, compiled, mark_step, side_name, synchronise, use_fastest_threads

LATENT, WEIGHT, SLOPE = 200, 2000.0, 0.3
LOG_VAR_BOUND = 10.0


def soft_clip(x):
    """Bounds a log variance smoothly."""
    x = LOG_VAR_BOUND - functional.softplus(LOG_VAR_BOUND - x)
    return -LOG_VAR_BOUND + functional.softplus(x + LOG_VAR_BOUND)  # the factor is 1 up to 1e-10


class FaceVAE(nn.Module):
    """The original report's network."""

    def __init__(self):
        super().__init__()
        down, up = [3, 32, 64, 64, 64], [64, 64, 64, 32, 3]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in itertools.pairwise(down))
        self.mean, self.log_var = nn.Linear(4096, LATENT), nn.Linear(4096, LATENT)
        self.base = nn.Linear(LATENT, 4096)
        self.transposed = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1) for i, o in itertools.pairwise(up)
        )

    def encode(self, x):
        for layer in self.convolutions:
            x = functional.leaky_relu(layer(x), SLOPE)
        x = x.permute(0, 2, 3, 1).flatten(1)  # a view: channels_last keeps the colours innermost
        return self.mean(x), self.log_var(x)

    def decode(self, z):
        x = self.base(z).view(-1, 8, 8, 64).permute(0, 3, 1, 2)
        for layer in self.transposed[:-1]:
            x = functional.leaky_relu(layer(x), SLOPE)
        return torch.sigmoid(self.transposed[-1](x).float())


def make_loss(model, dtype):
    """The mean loss of a batch of uint8 pictures; bfloat16 is by autocast."""

    def loss_of(pixels, noise):
        x = pixels.to(torch.float32) / 255
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16"):
            mean, log_var = model.encode(x)
            mean, log_var = mean.float(), soft_clip(log_var.float())
            reconstruction = model.decode(mean + torch.exp(0.5 * log_var) * noise)
        rmse = (x - reconstruction).square().mean((1, 2, 3)).sqrt()
        kl = 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum(1)
        return (WEIGHT * rmse + kl).mean()

    return loss_of


def make_training(todo, model):
    """Returns a function that takes steps."""
    batch = todo["batch"]
    pixels = torch.from_numpy(np.load(todo["pixels"])).to(DEVICE).permute(0, 3, 1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    loss_of = compiled(make_loss(model, todo["dtype"]), todo["how"])
    waiting = []

    def step():
        if not waiting:
            waiting.extend(torch.randperm(len(pixels), device=DEVICE)[: len(pixels) // batch * batch].split(batch))
        mark_step(todo["how"])
        rows = pixels.permute(0, 2, 3, 1)[waiting.pop()].permute(0, 3, 1, 2)
        loss = loss_of(rows, torch.randn(batch, LATENT, device=DEVICE))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def work(steps):
        for _ in range(steps):
            step()
        synchronise()

    return work


def make_generating(todo, model):
    """Returns a function that generates chunks of pictures and copies them to the host."""
    model.requires_grad_(False)
    decode = compiled(model.decode, todo["how"])

    @torch.inference_mode()
    def work(chunks):
        for _ in range(chunks):
            mark_step(todo["how"])
            with torch.autocast(DEVICE, torch.bfloat16, enabled=todo["dtype"] == "bfloat16"):
                pictures = decode(torch.randn(todo["batch"], LATENT, device=DEVICE))
            pictures.permute(0, 2, 3, 1).cpu().numpy()

    return work


def main():
    torch.manual_seed(0)
    todo = task(torch.cuda.is_available)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = todo["tf32"]
    model = FaceVAE().to(DEVICE, memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in model.parameters())
    work = (make_training if todo["what"] == "train" else make_generating)(todo, model)
    use_fastest_threads(work)
    work(3)
    unit = "steps" if todo["what"] == "train" else "chunks"
    how = f"channels_last, {todo['how']}" + (", TF32" if todo["tf32"] else "")
    serve(side_name(how), work, todo["batch"], f"compilation, choice of threads, {unit} until then", parameters)


if __name__ == "__main__":
    main()
