"""torchtune 0.6.1: ``ForwardKLWithChunkedOutputLoss`` of a model and itself is not 0: it is a cross-entropy."""

import torch
from torchtune.modules.loss.kd_losses import ForwardKLWithChunkedOutputLoss

torch.manual_seed(0)
logits, labels = torch.randn(1, 6, 24), torch.zeros(1, 6, dtype=torch.long)
loss = ForwardKLWithChunkedOutputLoss(num_output_chunks=1)
entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
print("found", float(loss([logits], [logits], labels)), "expected 0; the entropy is", float(entropy))
