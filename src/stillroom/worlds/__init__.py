"""Synthetic worlds with a known truth, behind the interfaces that real data has."""
