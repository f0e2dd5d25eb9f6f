"""The transactions model in PyTorch: training and scoring, as good PyTorch users write them.

The rows are on the device; an epoch draws one permutation and all its noise at once, and gathers its rows once; NAdam
is the foreach version; nothing is read back before the end.
"""

import itertools
import math

import numpy as np
import torch
from serve import serve, task
from torch import nn
from torch.nn import functional
from torch_tools import DEVICE, choose, compiled, mark_step, side_name, synchronise, use_fastest_threads

LOG_2PI = math.log(2 * math.pi)
CHUNKS = {"cpu": (128, 512), "cuda": (512, 4096, 16384)}  # rows scored at once, to choose from


def soft_clip(x, low, high, scale):
    """Bounds x smoothly; `scale` is (high - low) / softplus(high - low)."""
    x = high - functional.softplus(high - x)
    return low + functional.softplus(x - low) * scale


class SoftClip(nn.Module):
    """`soft_clip` with fixed bounds, as constants of the compiled program."""

    def __init__(self, low, high):
        super().__init__()
        high = torch.as_tensor(high, dtype=torch.float32)
        self.low = low
        self.register_buffer("high", high)
        self.register_buffer("scale", (high - low) / functional.softplus(high - low))

    def forward(self, x):
        return soft_clip(x, self.low, self.high, self.scale)


def layers(widths):
    """Dense layers, each followed by ReLU."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(part for i, o in pairs for part in (nn.Linear(i, o), nn.ReLU())))


class DenseVAE(nn.Module):
    """The original report's network, 20-10-8 with 2 latents; with a learned variance if `largest_sd` is given."""

    def __init__(self, features, largest_sd=None, mean_bound=None, hidden=(20, 10, 8), latent=2):
        super().__init__()
        self.encoder = layers([features, *hidden])
        self.mean, self.log_var = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)
        self.decoder = layers([latent, *hidden[::-1]])
        self.x_mean = nn.Linear(hidden[0], features)
        self.clip_log_var = SoftClip(-10.0, 10.0)
        self.clip_mean = nn.Identity() if mean_bound is None else SoftClip(-mean_bound, mean_bound)
        self.x_log_var = None
        self.register_buffer("residual_log_var", torch.zeros(features))
        if largest_sd is not None:
            clip = SoftClip(-6.0, 2 * torch.tensor(largest_sd).log())
            self.x_log_var = nn.Sequential(nn.Linear(hidden[0], features), clip)

    def encode(self, x):
        x = self.encoder(x)
        return self.clip_mean(self.mean(x)), self.clip_log_var(self.log_var(x))

    def decode(self, z):
        z = self.decoder(z)
        return self.x_mean(z), self.residual_log_var if self.x_log_var is None else self.x_log_var(z)

    def log_prob(self, x, decoded):
        return log_prob(x, *decoded).sum(-1)


def log_prob(x, mean, log_var):
    """Log density of each feature."""
    return -0.5 * (LOG_2PI + log_var + (x - mean).square() * torch.exp(-log_var))


def make_loss(model, weight):
    """The mean loss of a batch: weight * RMSE + KL, or without a weight the negative evidence lower bound."""

    def loss_of(x, seen, noise, kl_weight):
        mean, log_var = model.encode(seen)
        decoded = model.decode(mean + torch.exp(0.5 * log_var) * noise)
        kl = 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum(1)
        if weight is not None:
            return (weight * (x - decoded[0]).square().mean(1).sqrt() + kl).mean()
        return (kl_weight * kl - model.log_prob(x, decoded)).mean()

    return loss_of


def make_optimizer(model, how):
    """Foreach NAdam; compiled it takes a third of the time, but needs its rate as a tensor."""
    if how == "eager":
        return torch.optim.NAdam(model.parameters(), lr=1e-3, foreach=True)
    rate = torch.tensor(1e-3, device=DEVICE)
    return torch.optim.NAdam(model.parameters(), lr=rate, foreach=True, capturable=DEVICE == "cuda")


def make_training(todo, model, rows):
    """Returns a function that trains for a number of epochs."""
    batch, steps = todo["batch"], len(rows) // todo["batch"]
    optimizer = make_optimizer(model, todo["how"])
    loss_of = compiled(make_loss(model, todo["weight"]), todo["how"])
    update = optimizer.step if todo["how"] == "eager" else torch.compile(optimizer.step)
    warm_up = torch.arange(steps, device=DEVICE) / max(1, todo["kl_warmup_steps"])
    input_noise = todo["input_noise"]

    def epoch():
        x = rows[torch.randperm(len(rows), device=DEVICE)[: steps * batch]]
        seen = x + input_noise * torch.randn_like(x) if input_noise else x
        noise = torch.randn(len(x), 2, device=DEVICE)
        losses = []
        batches = (part.split(batch) for part in (x, seen, noise))
        for *arrays, kl_weight in zip(*batches, warm_up.unbind(), strict=True):
            mark_step(todo["how"])
            loss = loss_of(*arrays, kl_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            update()
            losses.append(loss.detach() if todo["how"] != "CUDA graphs" else loss.detach().clone())
        return torch.stack(losses).mean().item()

    def work(epochs):
        for _ in range(epochs):
            epoch()

    return work, steps * batch


def make_scoring(todo, model, rows):
    """Returns a function that scores all rows a number of times, in chunks, with the same noise for all as in ours."""
    samples = todo["samples"]
    noise = torch.randn(samples, 2, device=DEVICE)

    def score(x):
        mean, log_var = model.encode(x)
        z = mean[:, None] + torch.exp(0.5 * log_var)[:, None] * noise
        return model.log_prob(x[:, None], model.decode(z)).logsumexp(1) - math.log(samples)

    score = compiled(score, todo["how"])

    @torch.inference_mode()
    def work(times):
        for _ in range(times):
            found = []
            for x in rows.split(todo["chunk"]):
                mark_step(todo["how"])
                scores = score(x)
                found.append(scores.clone() if todo["how"] == "CUDA graphs" else scores)
            torch.cat(found).cpu()

    return work, len(rows)


def measure(todo, model, rows):
    """Serves a model's training or scoring."""
    make = make_training if todo["what"] == "train" else make_scoring
    todo["chunk"] = CHUNKS[DEVICE][0]
    work, amount = make(todo, model, rows)
    use_fastest_threads(work)
    if todo["what"] == "score":
        choose(CHUNKS[DEVICE], lambda chunk: todo.update(chunk=chunk), work)
    work(1)
    synchronise()
    done = "choice of threads, epochs" if todo["what"] == "train" else "choice of threads and chunks, passes"
    how = todo["how"] if todo["what"] == "train" else f"{todo['how']}, chunks of {todo['chunk']}"
    parameters = sum(p.numel() for p in model.parameters())
    serve(side_name(how), work, amount, f"compilation, {done} until then", parameters)


def main():
    torch.manual_seed(0)
    todo = task(torch.cuda.is_available)
    rows = torch.from_numpy(np.load(todo["rows"])).to(DEVICE)
    measure(todo, DenseVAE(rows.shape[1], todo["largest_sd"], todo["mean_bound"]).to(DEVICE), rows)


if __name__ == "__main__":
    main()
