"""Digits: the experiments of two papers on MNIST's log likelihood, by `bash run.sh mnist`."""
