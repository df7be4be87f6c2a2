"""Networks that find objects, key points included."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Basic, conv_norm
from .registry import images, network


class Backbone(nn.Module):
    """Features at strides of 4, 8 and 16."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = conv_norm(3, width, 3, 2)
        self.c3, self.c4, self.c5 = Basic(width, width, 2), Basic(width, 2 * width, 2), Basic(2 * width, 4 * width, 2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        return [c3, c4, self.c5(c4)]


class Pyramid(nn.Module):
    """FPN: from the top down by nearest neighbors."""

    def __init__(self, channels: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)
        self.layer = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in channels)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        last = self.inner[-1](features[-1])
        results = [self.layer[-1](last)]
        for index in range(len(features) - 2, -1, -1):
            lateral = self.inner[index](features[index])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            results.insert(0, self.layer[index](last))
        return results


class Head(nn.Module):
    """Shared over the scales: classes, boxes and objectness."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(conv_norm(channels, channels), conv_norm(channels, channels))
        self.cls, self.box, self.obj = (nn.Conv2d(channels, n, 3, padding=1) for n in (classes, 4, 1))
        self.scales = nn.Parameter(torch.tensor([1.0, 1.2, 0.9]))

    def forward(self, features: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        outputs = []
        for index, feature in enumerate(features):
            t = self.tower(feature)
            outputs.append((self.cls(t), F.relu(self.box(t) * self.scales[index]), self.obj(t)))
        return outputs


class RawDetector(nn.Module):
    """A dictionary of lists, one entry a scale, as heads give it in training."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.backbone, self.fpn, self.head = Backbone(), Pyramid((8, 16, 32), 16), Head(16, classes)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        scales = self.head(self.fpn(self.backbone(x)))
        return {name: [scale[i] for scale in scales] for i, name in enumerate(("cls", "box", "obj"))}


@network(images(size=64), batch=4)
def fpn_raw() -> nn.Module:
    return RawDetector()


class DecodedDetector(RawDetector):
    """Boxes in pixels and scores of all scales in one tensor [N, anchors, 4 + 1 + classes]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for index, (cls, box, obj) in enumerate(self.head(self.fpn(self.backbone(x)))):
            stride = 2 ** (index + 2)
            h, w = box.shape[-2:]
            ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            points = (torch.stack((xs, ys)).flatten(1).unsqueeze(0) + 0.5) * stride
            left_top, right_bottom = (box.flatten(2) * stride).chunk(2, dim=1)
            low, high = points - left_top, points + right_bottom
            boxes = torch.cat(((low + high) / 2, high - low), dim=1)
            found.append(torch.cat((boxes, obj.flatten(2).sigmoid(), cls.flatten(2).sigmoid()), dim=1))
        return torch.cat(found, dim=2).permute(0, 2, 1)


@network(images(size=64), batch=4)
def fpn_decoded() -> nn.Module:
    return DecodedDetector()


class Dfl(nn.Module):
    """The expected value of a distribution over 8 distances, as a convolution with fixed weights."""

    def __init__(self, bins: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.copy_(torch.arange(bins).view(1, bins, 1, 1))
        self.bins = bins

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, anchors = x.shape
        return self.conv(x.view(batch, 4, self.bins, anchors).transpose(2, 1).softmax(1)).view(batch, 4, anchors)


class C2f(nn.Module):
    def __init__(self, inp: int, out: int, blocks: int = 1) -> None:
        super().__init__()
        self.half = out // 2
        self.cv1, self.cv2 = (
            conv_norm(inp, out, 1, act=nn.SiLU),
            conv_norm((2 + blocks) * self.half, out, 1, act=nn.SiLU),
        )
        self.m = nn.ModuleList(
            nn.Sequential(conv_norm(self.half, self.half, act=nn.SiLU), conv_norm(self.half, self.half, act=nn.SiLU))
            for _ in range(blocks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            y.append(y[-1] + block(y[-1]))
        return self.cv2(torch.cat(y, 1))


class Sppf(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = (
            conv_norm(channels, channels // 2, 1, act=nn.SiLU),
            conv_norm(2 * channels, channels, 1, act=nn.SiLU),
        )
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Yolo(nn.Module):
    """In the manner of version 8: C2f blocks, SPPF, and a head with distributions of distances, decoded."""

    def __init__(self, classes: int = 4, bins: int = 8) -> None:
        super().__init__()
        silu = nn.SiLU
        self.classes, self.bins = classes, bins
        self.stem, self.s2 = (
            conv_norm(3, 8, 3, 2, act=silu),
            nn.Sequential(conv_norm(8, 16, 3, 2, act=silu), C2f(16, 16)),
        )
        self.s3 = nn.Sequential(conv_norm(16, 32, 3, 2, act=silu), C2f(32, 32), Sppf(32))
        self.up, self.merge = nn.Upsample(scale_factor=2, mode="nearest"), C2f(48, 16)
        self.down, self.merge2 = conv_norm(16, 16, 3, 2, act=silu), C2f(48, 32)
        self.cv2 = nn.ModuleList(
            nn.Sequential(conv_norm(c, 16, act=silu), nn.Conv2d(16, 4 * bins, 1)) for c in (16, 32)
        )
        self.cv3 = nn.ModuleList(nn.Sequential(conv_norm(c, 16, act=silu), nn.Conv2d(16, classes, 1)) for c in (16, 32))
        self.dfl = Dfl(bins)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        p2 = self.s2(self.stem(x))
        p3 = self.s3(p2)
        n2 = self.merge(torch.cat([self.up(p3), p2], 1))
        n3 = self.merge2(torch.cat([self.down(n2), p3], 1))
        raw = [torch.cat((self.cv2[i](f), self.cv3[i](f)), 1) for i, f in enumerate((n2, n3))]
        box, cls = torch.cat([r.view(r.shape[0], 4 * self.bins + self.classes, -1) for r in raw], 2).split(
            (4 * self.bins, self.classes), 1
        )
        points, strides = self.anchors(raw)
        low, high = self.dfl(box).chunk(2, 1)
        low, high = points - low, points + high
        boxes = torch.cat(((low + high) / 2, high - low), 1) * strides
        return torch.cat((boxes, cls.sigmoid()), 1), raw

    def anchors(self, raw: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        points, strides = [], []
        for r, stride in zip(raw, (4, 8), strict=True):
            h, w = r.shape[2:]
            ys, xs = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack((xs, ys), 0).view(2, -1))
            strides.append(torch.full((1, h * w), float(stride)))
        return torch.cat(points, 1), torch.cat(strides, 1)


@network(images(size=32), batch=4)
def yolo_dfl() -> nn.Module:
    return Yolo()


class Detr(nn.Module):
    """Convolutions, an encoder, and a decoder whose queries are parameters; with torch's own layers."""

    def __init__(self, dim: int = 32, queries: int = 6, classes: int = 5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 8, 3, 2), Basic(8, 16, 2), Basic(16, 32, 2))
        self.conv = nn.Conv2d(32, dim, 1)
        self.transformer = nn.Transformer(dim, 4, 1, 1, 2 * dim, dropout=0.0, batch_first=True)
        self.query, self.row, self.col = (
            nn.Parameter(torch.rand(n, d)) for n, d in ((queries, dim), (8, dim // 2), (8, dim // 2))
        )
        self.classes = nn.Linear(dim, classes + 1)
        self.boxes = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.conv(self.backbone(x))
        batch, _, height, width = h.shape
        columns = self.col[:width].unsqueeze(0).repeat(height, 1, 1)
        rows = self.row[:height].unsqueeze(1).repeat(1, width, 1)
        position = torch.cat([columns, rows], dim=-1).flatten(0, 1).unsqueeze(0)
        h = self.transformer(
            position + 0.1 * h.flatten(2).permute(0, 2, 1), self.query.unsqueeze(0).repeat(batch, 1, 1)
        )
        return {"pred_logits": self.classes(h), "pred_boxes": self.boxes(h).sigmoid()}


@network(images(size=32), attention=True, batch=4)
def detr() -> nn.Module:
    return Detr()


class SimplePose(nn.Module):
    """Heat maps from a residual network and transposed convolutions of 4×4 with batch norms."""

    def __init__(self, joints: int = 5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 8, 3, 2), Basic(8, 16, 2), Basic(16, 32, 2))
        layers: list[nn.Module] = []
        for inp, out in ((32, 16), (16, 16)):
            layers += [nn.ConvTranspose2d(inp, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        self.deconv, self.final = nn.Sequential(*layers), nn.Conv2d(16, joints, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final(self.deconv(self.backbone(x)))


@network(images(size=(64, 48)), batch=4)
def pose() -> nn.Module:
    return SimplePose()
