"""axolotl 0.19.0: the fused kernel multiplies its value by T² and not its gradient."""

import torch
from axolotl.integrations.kd.kernels.liger import LigerFusedLinearKLTopKLogprobFunction as Kernel

torch.manual_seed(0)
hidden, weight = torch.randn(1, 6, 8, requires_grad=True), torch.randn(24, 8)
ids, mask, labels = torch.arange(24).expand(1, 6, 24), torch.ones(1, 6, 24), torch.full((1, 6), -100)
for t in (1.0, 2.0, 4.0):
    logprobs = (torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(1)) / t).log_softmax(-1)
    found = Kernel.apply(hidden, weight, ids, logprobs, mask, labels, None, 0.0, 1.0, -100, t)
    log_p = (hidden @ weight.t() / t).log_softmax(-1)
    expected = t**2 * (logprobs.exp() * (logprobs - log_p)).sum()
    ratio = [float(torch.autograd.grad(one, hidden)[0].norm()) for one in (found, expected)]
    value = float((found / expected).detach())
    print(f"T = {t:g}: value {value:.4f} and gradient {ratio[0] / ratio[1]:.4f} of what is right")
