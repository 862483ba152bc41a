"""One network in several frameworks: recurrent LIF layers, a leaky readout, forward and backward.

A spike is ``s_t = [u_t >= 1]``, a layer's membrane ``u_t = beta (u_{t-1} - s_{t-1}) + x_t W +
s_{t-1} V``, the readout ``r_t = a r_{t-1} + s_t W``, the loss the softmax cross-entropy of ``r_t``,
summed over steps, averaged over the batch; the spike's derivative is ``0.3 max(0, 1 - |u - 1|)``.
Without recurrence ``V`` is left out, without a readout the loss is the number of spikes.
Each framework gets the same arrays and the fastest form that we found for it: layer after layer,
the products with a layer's input made for all steps at once, steps cut out by ``unbind`` (whose
gradient is one ``stack``, where that of ``x[t]`` is an array of all steps, for every step).

Frameworks are imported where they are used. ``FRAMEWORKS`` says what each does differently.
"""

from __future__ import annotations

from snnlab.benchmarks.frameworks import with_jax, with_torch
from snnlab.benchmarks.frameworks.base import Case, Framework, Run

__all__ = ["FRAMEWORKS", "Case", "Framework", "Run", "with_jax", "with_torch"]

FRAMEWORKS = {
    "torch": Framework("torch", with_torch.plain_torch, "nothing"),
    "torch, CUDA graph": Framework("torch", with_torch.plain_torch, "nothing", graph=True),
    "snnTorch": Framework(
        "snntorch", with_torch.snntorch, "no gradient through the reset; spikes at u > 1"
    ),
    "norse": Framework(
        "norse.torch", with_torch.norse, "nothing; the recurrent product is torch's"
    ),
    "SpikingJelly": Framework(
        "spikingjelly.activation_based.neuron", with_torch.spikingjelly,
        "nothing; recurrent product and readout are torch's",
    ),
    "spyx": Framework(
        "spyx", with_jax.spyx, "spikes leave a layer one step late; decays are trained too",
        torch=False,
    ),
}  # fmt: skip
