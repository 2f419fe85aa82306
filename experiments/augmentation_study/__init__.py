"""``augment evaluate``: does a synthetic cohort help a classifier? The paper's Table 2, with the statistics that it lacks."""
