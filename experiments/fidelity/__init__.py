"""How good synthetic samples are: measures of features, each beside the floor that real images set."""
