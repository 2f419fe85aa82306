"""Does a synthetic cohort give patients away? Copies, measures of memorisation, attacks on membership, and a gate."""
