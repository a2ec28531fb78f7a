"""Programs written by a model: the jail they run in, and the judge outside of it."""
