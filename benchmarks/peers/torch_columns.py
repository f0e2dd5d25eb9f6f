"""A VAE for tables of numbers and categories in PyTorch, on the one-hot table.

A row is its numbers and answers (-1, 1), a mask of their gaps, and its categories one-hot, as our encoder sees it. The
loss is Gaussian, binary and categorical cross-entropy. Trained and scored as the transactions model.
"""

import numpy as np
import torch
from serve import task
from torch import nn
from torch.nn import functional
from torch_fraud import DenseVAE, SoftClip, layers, log_prob, measure
from torch_tools import DEVICE


class ColumnVAE(DenseVAE):
    """The dense network with a head for each kind of column; `layout` counts numbers, answers and levels."""

    def __init__(self, layout, mean_bound, hidden=(20, 10, 8), latent=2):
        numbers, answers, levels = layout["numbers"], layout["answers"], layout["levels"]
        super().__init__(2 * (numbers + answers) + sum(levels), None, mean_bound, hidden, latent)
        self.numbers, self.answers, self.levels = numbers, answers, levels
        self.decoder = layers([latent, *hidden[::-1]])
        self.x_mean = nn.Linear(hidden[0], numbers)
        self.x_log_var = nn.Sequential(nn.Linear(hidden[0], numbers), SoftClip(-6.0, 0.0))
        self.logits = nn.Linear(hidden[0], answers + sum(levels))

    def decode(self, z):
        z = self.decoder(z)
        return self.x_mean(z), self.x_log_var(z), self.logits(z)

    def log_prob(self, x, decoded):
        mean, log_var, logits = decoded
        valued = self.numbers + self.answers
        numbers, answers, one_hot = x[..., : self.numbers], x[..., self.numbers : valued], x[..., 2 * valued :]
        of_answers, of_levels = logits[..., : self.answers], logits[..., self.answers :]
        found = log_prob(numbers, mean, log_var).sum(-1)
        found = found + functional.logsigmoid(answers * of_answers).sum(-1) + (one_hot * of_levels).sum(-1)
        return found - sum(block.logsumexp(-1) for block in of_levels.split(self.levels, -1))


def main():
    torch.manual_seed(0)
    todo = task(torch.cuda.is_available)
    rows = torch.from_numpy(np.load(todo["rows"])).to(DEVICE)
    measure(todo, ColumnVAE(todo["layout"], todo["mean_bound"]).to(DEVICE), rows)


if __name__ == "__main__":
    main()
