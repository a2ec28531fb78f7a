"""The bytes behind every token id; see ``stillroom.vocabulary``, which corpora share."""

from stillroom.vocabulary import Pieces, Vocabulary, encode, encode_documents, token_bytes

__all__ = ["Pieces", "Vocabulary", "encode", "encode_documents", "token_bytes"]
