"""The layouts in which cohorts lie on disk, a reader for each, and the table of participants that they share."""
