"""Exports trained models as ONNX or StableHLO: `bash run.sh export`."""
