"""What every experiment runs on: run folder, training loop, progress, loggers, stopping, several processes, sweeps."""
