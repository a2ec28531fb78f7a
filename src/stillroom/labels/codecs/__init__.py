"""Codecs: how the soft labels of a position become bytes, a module for each."""
