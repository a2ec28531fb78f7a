"""axolotl 0.19.0: the fused kernel renormalises the student too, so mass outside of the listed ids goes unseen."""

import torch
from axolotl.integrations.kd.kernels.liger import LigerFusedLinearKLTopKLogprobFunction as Kernel

torch.manual_seed(0)
ids, labels = torch.arange(4).expand(1, 6, 4), torch.full((1, 6), -100)
logprobs = torch.randn(1, 6, 4).log_softmax(-1)
logits = torch.cat([logprobs, torch.full((1, 6, 20), 9.0)], -1)  # nearly all of the student's mass is elsewhere
found = Kernel.apply(logits, torch.eye(24), ids, logprobs, torch.ones(1, 6, 4), labels, None, 0.0, 1.0, -100, 1.0)
expected = (logprobs.exp() * (logprobs - logits.log_softmax(-1)[..., :4])).sum()
print("found", float(found), "expected", float(expected), "nats")
