"""Scores of reconstructions, their uncertainty, and the report."""
