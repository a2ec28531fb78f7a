"""Labels of other software, in and out."""
