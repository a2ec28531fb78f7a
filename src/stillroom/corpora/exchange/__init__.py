"""Token ids of other software, in and out."""
