"""torchtune 0.6.1: a micro-batch of which nothing counts gives a loss without a graph, and ``backward`` raises."""

import torch
from torchtune.modules.loss.kd_losses import ReverseKLLoss

logits = torch.randn(1, 6, 24, requires_grad=True)
loss = ReverseKLLoss()(logits, torch.randn(1, 6, 24), torch.full((1, 6), -100))
print("found a loss with requires_grad", loss.requires_grad, "expected True, with a gradient of 0")
