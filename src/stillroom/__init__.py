"""Distilled pretraining for PyTorch: small causal language models from hard labels and a teacher's soft labels."""

__version__ = "0.1.0"
