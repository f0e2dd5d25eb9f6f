"""Scores your own rows with a saved model, in a stream: `bash run.sh score`."""
