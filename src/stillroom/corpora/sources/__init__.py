"""Where text comes from: a module for each kind of source."""
