"""Scaling laws: forms, fits, forecasts and advice, before a student is trained. Imports no torch."""
