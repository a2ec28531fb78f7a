"""What each suite measures: pure functions of a model and items that return the dataclasses of ``results.schema``."""
