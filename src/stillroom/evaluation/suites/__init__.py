"""Suites: what is measured of a model, a module for each."""
