"""A synthetic cohort: drawn, screened, written, and what is set aside of it."""
