#!/usr/bin/env bash
# torchao 0.18.0, torch 2.13.0: prepare_qat_pt2e counts the quantizers of a residual block (activation_post_process_N)
# in another order than the network runs: what it fuses with a batch norm moves behind the other branch.
# Expected: numbers in the order of the forward, as torch.ao's prepare_qat_fx gives them for the same network.
# Seen: of b(a(x)) + p(x), a and b with batch norms, the weight of p is counted before that of b, which runs earlier; in
# prepare_qat_fx outputs are counted a, relu, b, p, sum. A state_dict has the numbers alone, and all three weights as [C].
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchao==0.18.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PYTHON' 2> "$work/log" || { cat "$work/log"; exit 1; }
import torch
from torch import nn
from torch.ao.quantization import get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b, self.m = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.p = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.m(self.b(torch.relu(self.n(self.a(x)))))
        return y + self.p(x)


x = torch.randn(2, 4, 8, 8)
quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_qat=True))
model = prepare_qat_pt2e(torch.export.export(Block().train(), (x,)).module(), quantizer)


def parameter(node):
    """The weight that a node is made of."""
    while node.op != "get_attr":
        node = next(source for source in node.all_input_nodes if "running" not in source.name and "sqrt" not in source.name)
    return str(node.target)


counted = {}
for node in model.graph.nodes:
    if str(node.target).startswith("activation_post_process"):
        source, number = node.args[0], int(str(node.target).rpartition("_")[2])
        if source.op == "get_attr" or source.name.startswith("mul"):
            counted[parameter(source)] = number
print("prepare_qat_pt2e:", counted)
fx = prepare_qat_fx(Block().train(), get_default_qat_qconfig_mapping("x86"), (x,))
order = [str(n.args[0].name) for n in fx.graph.nodes if str(n.target).startswith("activation_post_process")]
print("prepare_qat_fx:", order)
assert counted["a.weight"] < counted["p.weight"] < counted["b.weight"], counted
assert order == ["x", "a", "relu", "b", "p", "add"], order
print("as described: torchao counts the branches in an order of its own")
PYTHON
