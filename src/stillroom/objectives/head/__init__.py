"""The fused head: hidden states to nats per position, with the gradient taken in the forward pass."""

from stillroom.objectives.head.fused import HeadOutput, fused_linear_cross_entropy

__all__ = ["HeadOutput", "fused_linear_cross_entropy"]
