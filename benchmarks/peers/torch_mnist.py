"""The one-layer digits model in PyTorch: training and log p(x), as good PyTorch users write them.

The images are on the device; an epoch draws its bits, its order and all its noise at once, and gathers its rows once;
Adam is fused; nothing is read back before the end.
"""

import math

import numpy as np
import torch
from serve import serve, task
from torch import nn
from torch.nn import functional
from torch_fraud import SoftClip
from torch_tools import DEVICE, choose, compiled, mark_step, side_name, synchronise, use_fastest_threads

PIXELS, HIDDEN, LATENT = 784, 200, 50
CHUNKS = {"cpu": (20, 50, 100), "cuda": (20, 50, 250)}  # samples of each image weighed at once, to choose from


class DigitVAE(nn.Module):
    """784-200-200-50 with tanh, and Bernoulli pixels."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.mean, self.log_var = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS)
        )
        self.clip_log_var = SoftClip(-10.0, 10.0)

    def encode(self, x):
        x = self.encoder(x)
        return self.mean(x), self.clip_log_var(self.log_var(x))

    def log_weights(self, x, mean, log_var, noise):
        """log p(x, z) - log q(z|x) of K samples of each image of bits; (z - mean) / sd is the noise itself."""
        z = mean + torch.exp(0.5 * log_var) * noise
        log_likelihood = functional.logsigmoid((2 * x - 1) * self.decoder(z)).sum(-1)
        return log_likelihood + 0.5 * (log_var + noise.square() - z.square()).sum(-1)


def make_loss(model, objective):
    """The mean loss of a batch: minus the ELBO or the importance-weighted bound."""

    def loss_of(x, noise):
        log_w = model.log_weights(x, *model.encode(x), noise)
        bound = log_w.mean(0) if objective == "vae" else log_w.logsumexp(0) - math.log(len(log_w))
        return -bound.mean()

    return loss_of


def make_training(todo, model, pixels):
    """Returns a function that trains for a number of epochs."""
    batch, steps = todo["batch"], len(pixels) // todo["batch"]
    optimizer = torch.optim.Adam(model.parameters(), lr=todo["learning_rate"], eps=todo["epsilon"], fused=True)
    loss_of = compiled(make_loss(model, todo["objective"]), todo["how"])
    share = pixels / 255

    def epoch():
        bits = (torch.rand_like(share) < share).float()  # torch.bernoulli takes three times as long
        x = bits[torch.randperm(len(bits), device=DEVICE)[: steps * batch]]
        noise = torch.randn(steps, todo["samples"], batch, LATENT, device=DEVICE)
        losses = []
        for arrays in zip(x.split(batch), noise.unbind(), strict=True):
            mark_step(todo["how"])
            loss = loss_of(*arrays)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach() if todo["how"] != "CUDA graphs" else loss.detach().clone())
        return torch.stack(losses).mean().item()

    def work(epochs):
        for _ in range(epochs):
            epoch()

    return work, steps * batch


def make_log_likelihood(todo, model, pixels):
    """Returns a function that estimates log p(x) of all images a number of times, some samples of each at once."""
    samples = todo["samples"]
    x = (torch.rand(pixels.shape, device=DEVICE) < pixels / 255).float()
    weigh = compiled(model.log_weights, todo["how"])

    @torch.inference_mode()
    def work(times):
        for _ in range(times):
            mean, log_var = model.encode(x)
            found = []
            for _ in range(samples // todo["chunk"]):
                mark_step(todo["how"])
                log_w = weigh(x, mean, log_var, torch.randn(todo["chunk"], *mean.shape, device=DEVICE))
                found.append(log_w.clone() if todo["how"] == "CUDA graphs" else log_w)
            (torch.cat(found).logsumexp(0) - math.log(samples)).cpu()

    return work, len(x)


def main():
    torch.manual_seed(0)
    todo = task(torch.cuda.is_available)
    torch.backends.cuda.matmul.allow_tf32 = todo["tf32"]
    model, pixels = DigitVAE().to(DEVICE), torch.from_numpy(np.load(todo["pixels"])).to(DEVICE)
    todo["chunk"] = CHUNKS[DEVICE][1]
    train = todo["what"] == "train"
    work, amount = (make_training if train else make_log_likelihood)(todo, model, pixels)
    use_fastest_threads(work)
    if not train:
        choose(CHUNKS[DEVICE], lambda chunk: todo.update(chunk=chunk), work)
    work(1)
    synchronise()
    done = "choice of threads, epochs" if train else "choice of threads and chunks, passes"
    how = todo["how"] + (", TF32" if todo["tf32"] else "") + ("" if train else f", chunks of {todo['chunk']} samples")
    parameters = sum(p.numel() for p in model.parameters())
    serve(side_name(how), work, amount, f"compilation, {done} until then", parameters)


if __name__ == "__main__":
    main()
