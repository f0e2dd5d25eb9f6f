"""The parts that a data set is divided into, as numbers, and their usual shares."""

TRAIN, VALIDATION, TEST = 0, 1, 2
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1
