"""The tiny teacher, corpus and store of these tests."""

from tiny_labels import corpus, made, teacher

__all__ = ["corpus", "made", "teacher"]
