"""Configured connections: where the lake is, what to archive, how to compute, which model to train."""
