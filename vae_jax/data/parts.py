"""The parts of a data set, as numbers, and their usual shares."""

TRAIN, VALIDATION, TEST = 0, 1, 2
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1
