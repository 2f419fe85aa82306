"""The classifier of the paper's Table 5 and its 3-D twin, their training, and the scores per label."""
