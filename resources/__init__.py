"""Dagster resources: settings in, plain clients and the staging file out."""
