"""Attention modules with Linear layers of their own, which can be quantized.

    nn.MultiheadAttention(E, heads)  =>  q_proj, k_proj, v_proj, out_proj: Linear;  matmul, softmax, matmul

torch's module computes its projections by functions, on parts of one matrix. This one has the same arguments and
results, and computes the same.
"""

from __future__ import annotations

import torch
from torch import nn

from .plain import copied


def open_attention(model: nn.Module) -> nn.Module:
    """The model itself, or, if there are modules of attention in it, a copy with an `Attention` in place of each."""
    if not any(map(_can_open, model.modules())):
        return model
    if _can_open(model):
        return Attention(model)  # type: ignore[arg-type]
    opened = copied(model)
    made: dict[nn.Module, Attention] = {}
    for module in list(opened.modules()):
        for name, child in list(module._modules.items()):
            if isinstance(child, nn.MultiheadAttention) and _can_open(child):
                setattr(module, name, made.setdefault(child, Attention(child)))
    return opened


def _can_open(module: nn.Module) -> bool:
    """Exactly torch's class, without keys and values that are put in between."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


class Attention(nn.Module):
    """What nn.MultiheadAttention computes of batches: [N, T, E], or [T, N, E] where `batch_first` is not set."""

    _qkv_same_embed_dim = False  # torch's encoder layers ask, before they take a shortcut past this module
    in_proj_bias = in_proj_weight = None

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = source.embed_dim, source.num_heads, source.head_dim
        self.batch_first = source.batch_first
        whole: torch.Tensor | None = getattr(source, "in_proj_weight", None)
        parts = [getattr(source, f"{part}_proj_weight") for part in "qkv"]  # None where there is one matrix
        weights = list(whole.detach().chunk(3)) if whole is not None else [part.detach() for part in parts]
        bias = source.in_proj_bias
        biases = [None] * 3 if bias is None else list(bias.detach().chunk(3))
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)
        self.out_proj = _linear(source.out_proj.weight.detach(), source.out_proj.bias)
        self.softmax, self.dropout = nn.Softmax(-1), nn.Dropout(source.dropout)
        self.train(source.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(result, weights or None). Masks as in torch; is_causal only says of which kind `attn_mask` is."""
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q = self._heads(self.q_proj(query)) * self.head_dim**-0.5  # [N, heads, T, d]
        k, v = self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        scores = q @ k.transpose(-2, -1)  # [N, heads, T, S]
        if attn_mask is not None:
            by_head = attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[1:]) if attn_mask.dim() == 3 else attn_mask
            scores = _masked(scores, by_head)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask[:, None, None, :])
        weights = self.dropout(self.softmax(scores))
        y = (weights @ v).transpose(1, 2).flatten(2)
        y = self.out_proj(y)
        y = y if self.batch_first else y.transpose(0, 1)
        if not need_weights:
            return y, None
        return y, weights.mean(1) if average_attn_weights else weights

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, E] => [N, heads, T, d]"""
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)


def masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores of attention where False of a mask of bools leaves a key out, and numbers of another are added."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask


def causal(scores: torch.Tensor) -> torch.Tensor:
    """Scores [..., T, S] of attention in which no query sees a later key."""
    seen = torch.ones(scores.shape[-2], scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill(~seen.tril(), -torch.inf)


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As `masked`, but True of a mask of bools leaves a key out."""
    return masked(scores, ~mask if mask.dtype == torch.bool else mask)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
