"""Networks that find objects without a pyramid from the top down."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Basic, conv_norm
from .detection import Backbone
from .registry import images, network


class Ssd(nn.Module):
    """Predictions from layers of four sizes, box offsets decoded against fixed default boxes; one scaled L2 norm."""

    def __init__(self, classes: int = 4, boxes: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.backbone, self.scale = Backbone(), nn.Parameter(torch.full((8,), 4.0))
        self.extra = nn.Sequential(conv_norm(32, 16, 1), conv_norm(16, 32, 3, 2))
        channels = (8, 16, 32, 32)
        self.loc = nn.ModuleList(nn.Conv2d(c, boxes * 4, 3, padding=1) for c in channels)
        self.conf = nn.ModuleList(nn.Conv2d(c, boxes * classes, 3, padding=1) for c in channels)
        sizes = (16, 8, 4, 2)
        defaults = [self.defaults(size, boxes) for size in sizes]
        self.register_buffer("priors", torch.cat(defaults))

    @staticmethod
    def defaults(size: int, boxes: int) -> torch.Tensor:
        centers = (torch.arange(size) + 0.5) / size
        y, x, k = torch.meshgrid(centers, centers, torch.arange(float(boxes)), indexing="ij")
        wide = (1 + 0.5 * k) / size
        return torch.stack((x, y, wide, 1.2 * wide), -1).view(-1, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        features = [F.normalize(features[0], dim=1) * self.scale.view(1, -1, 1, 1), *features[1:]]
        features.append(self.extra(features[-1]))
        loc, conf = [], []
        for feature, box, score in zip(features, self.loc, self.conf, strict=True):
            loc.append(box(feature).permute(0, 2, 3, 1).contiguous())
            conf.append(score(feature).permute(0, 2, 3, 1).contiguous())
        offsets = torch.cat([o.view(o.size(0), -1) for o in loc], 1).view(x.size(0), -1, 4)
        scores = torch.cat([o.view(o.size(0), -1) for o in conf], 1).view(x.size(0), -1, self.classes)
        centers = self.priors[:, :2] + offsets[..., :2] * 0.1 * self.priors[:, 2:]
        sizes = self.priors[:, 2:] * torch.exp(offsets[..., 2:] * 0.2)
        boxes = torch.cat((centers - sizes / 2, centers + sizes / 2), -1)
        return boxes, F.softmax(scores, dim=-1)


@network(images(size=64), batch=4)
def ssd() -> nn.Module:
    return Ssd()


class CenterNet(nn.Module):
    """Heat maps whose local maxima are kept, and the best of them by TopK, with sizes and offsets gathered there."""

    def __init__(self, classes: int = 3, best: int = 10) -> None:
        super().__init__()
        self.best = best
        self.backbone = nn.Sequential(conv_norm(3, 8, 3, 2), Basic(8, 16, 2), Basic(16, 32, 2))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.hm, self.wh, self.reg = (
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, n, 1)) for n in (classes, 2, 2)
        )

    def gathered(self, feature: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        flat = feature.permute(0, 2, 3, 1).reshape(feature.size(0), -1, feature.size(1))
        return flat.gather(1, places.unsqueeze(2).expand(-1, -1, feature.size(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(self.backbone(x))
        heat = torch.sigmoid(self.hm(y))
        batch, _, height, width = heat.size()
        heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).float()
        scores, places = torch.topk(heat.view(batch, -1), self.best)
        kind = torch.div(places, height * width, rounding_mode="floor")
        places = places % (height * width)
        ys, xs = torch.div(places, width, rounding_mode="floor").float(), (places % width).float()
        offset, size = self.gathered(self.reg(y), places), self.gathered(self.wh(y), places)
        xs, ys = xs.unsqueeze(2) + offset[..., 0:1], ys.unsqueeze(2) + offset[..., 1:2]
        boxes = [xs - size[..., 0:1] / 2, ys - size[..., 1:2] / 2, xs + size[..., 0:1] / 2, ys + size[..., 1:2] / 2]
        return torch.cat([*boxes, scores.unsqueeze(2), kind.float().unsqueeze(2)], dim=2)


@network(images(size=32), batch=4)
def centernet() -> nn.Module:
    return CenterNet()


class BiFpnLayer(nn.Module):
    """EfficientDet: features of neighboring scales are weighed by parameters whose sum is one, then convolved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.rand(2, 2) + 0.5), nn.Parameter(torch.rand(3, 2) + 0.5)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1),
                nn.BatchNorm2d(channels),
            )
            for _ in range(4)
        )
        self.act = nn.SiLU()

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        p3, p4, p5 = features
        w1, w2 = F.relu(self.w1), F.relu(self.w2)
        w1, w2 = w1 / (w1.sum(dim=0) + 1e-4), w2 / (w2.sum(dim=0) + 1e-4)
        up4 = self.convs[0](self.act(w1[0, 0] * p4 + w1[1, 0] * F.interpolate(p5, scale_factor=2, mode="nearest")))
        out3 = self.convs[1](self.act(w1[0, 1] * p3 + w1[1, 1] * F.interpolate(up4, scale_factor=2, mode="nearest")))
        down = F.max_pool2d(out3, 2)
        out4 = self.convs[2](self.act(w2[0, 0] * p4 + w2[1, 0] * up4 + w2[2, 0] * down))
        down = F.max_pool2d(out4, 2)
        out5 = self.convs[3](self.act(w2[0, 1] * p5 + w2[1, 1] * down))
        return [out3, out4, out5]


class EfficientDet(nn.Module):
    def __init__(self, channels: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.backbone, self.lateral = (
            Backbone(),
            nn.ModuleList(conv_norm(c, channels, 1, act=None) for c in (8, 16, 32)),
        )
        self.layers = nn.ModuleList(BiFpnLayer(channels) for _ in range(2))
        self.cls, self.box = nn.Conv2d(channels, classes, 3, padding=1), nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = [lateral(f) for lateral, f in zip(self.lateral, self.backbone(x), strict=True)]
        for layer in self.layers:
            features = layer(features)
        cls = torch.cat([self.cls(f).flatten(2) for f in features], dim=2).transpose(1, 2)
        return cls, torch.cat([self.box(f).flatten(2) for f in features], dim=2).transpose(1, 2)


@network(images(size=64), batch=4)
def efficientdet() -> nn.Module:
    return EfficientDet()
