"""Cohorts of medical images: reading, checking, splitting and preparing them. Depends on no other folder of ours."""
