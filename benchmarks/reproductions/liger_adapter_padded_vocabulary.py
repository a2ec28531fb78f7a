"""Liger 0.8.5: a teacher with padded rows changes the loss, since the student is padded with logits of 0."""

import torch
from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

torch.manual_seed(0)
hidden, weight, targets = torch.randn(12, 8), torch.randn(24, 8), torch.zeros(12, dtype=torch.long)
padded = torch.cat([weight, torch.full((8, 8), -50.0) * hidden.mean(0).sign()])  # rows that no token owns
loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False)
print("student = teacher:", float(loss(hidden, weight, hidden, weight, targets)), "(expected 0)")
print("student = teacher but for padding:", float(loss(hidden, weight, hidden, padded, targets)), "(expected 0)")
