"""Thin Dagster code over the flows: assets, checks, jobs and sensors, from factories over the table mappings."""
