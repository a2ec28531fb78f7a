"""torchtune 0.6.1: ``ForwardKLLoss`` of a model and itself is its entropy and not 0: it is a cross-entropy."""

import torch
from torchtune.modules.loss.kd_losses import ForwardKLLoss

torch.manual_seed(0)
logits, labels = torch.randn(1, 6, 24), torch.zeros(1, 6, dtype=torch.long)
entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
print("found", float(ForwardKLLoss()(logits, logits, labels)), "expected 0; the entropy is", float(entropy))
