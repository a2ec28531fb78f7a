"""Recipes: functions that return a configuration, found by name on the command line."""
