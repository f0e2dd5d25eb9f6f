"""Scores of your own rows by a saved model, in a stream: `bash run.sh score`."""
