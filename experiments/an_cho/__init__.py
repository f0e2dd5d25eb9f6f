"""The experiments of An & Cho 2015, anomalies by reconstruction probability: `bash run.sh an-cho`."""
