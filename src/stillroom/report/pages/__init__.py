"""Pages other than a study's own: of the sandboxes and of a choice of teachers."""
