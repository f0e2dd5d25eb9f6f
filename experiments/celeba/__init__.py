"""The faces experiment: `bash run.sh celeba`, what its models make, `faces`, and the sweep, `celeba-sweep`."""
