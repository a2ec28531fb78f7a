"""Model-Optimizer 0.47.0: ``LogitsDistillationLoss()`` is a mean over the V ids too, so V times too small."""

import torch
from modelopt.torch.distill.losses import LogitsDistillationLoss

torch.manual_seed(0)
student, teacher = torch.randn(2, 1, 6, 24).unbind()
log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
divergence = (log_q.exp() * (log_q - log_p)).sum(-1).mean()
found = LogitsDistillationLoss()(student, teacher)
print(
    "found",
    float(found),
    "expected",
    float(divergence),
    "nats per position: 24 ids,",
    float(divergence / found),
    "times",
)
