"""The files of a label store: shards, records, manifest and index."""
