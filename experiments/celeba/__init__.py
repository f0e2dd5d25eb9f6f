"""The faces experiment: `bash run.sh celeba`, pictures from its models (`faces`), and its sweep (`celeba-sweep`)."""
