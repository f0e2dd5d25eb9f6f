"""The transactions experiment: `bash run.sh fraud`, and the sweep of its weights, `bash run.sh sweep`."""
