"""What every experiment runs on: its folder, the training loop, progress, loggers, stopping, several processes."""
