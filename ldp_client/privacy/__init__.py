"""Exact local differential privacy on integers: what a release costs, how it is clipped, how it is noised."""
