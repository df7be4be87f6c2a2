"""Networks that give a class to every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Basic, conv_norm, double
from .registry import images, network


class UNet(nn.Module):
    """Three scales; up by interpolation or by transposed convolutions."""

    def __init__(self, bilinear: bool, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w = width
        self.inc, self.down1, self.down2 = double(3, w), double(w, 2 * w), double(2 * w, 4 * w)
        if bilinear:
            self.up1 = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(4 * w, 2 * w, 1)
            )
            self.up2 = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(2 * w, w, 1)
            )
        else:
            self.up1, self.up2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)
        self.dec1, self.dec2, self.out = double(4 * w, 2 * w), double(2 * w, w), nn.Conv2d(w, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.dec1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.dec2(torch.cat([x1, self.up2(x)], dim=1))
        return self.out(x)


@network(images())
def unet_bilinear() -> nn.Module:
    return UNet(bilinear=True)


@network(images())
def unet_transposed() -> nn.Module:
    return UNet(bilinear=False)


class EfficientAttention(nn.Module):
    """SegFormer's: keys and values are read from an image that is smaller by `reduction`."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.scale, self.reduction = heads, (dim // heads) ** -0.5, reduction
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        if reduction > 1:
            self.sr, self.norm = nn.Conv2d(dim, dim, reduction, reduction), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        batch, length, dim = x.shape
        q = self.q(x).reshape(batch, length, self.heads, dim // self.heads).permute(0, 2, 1, 3)
        if self.reduction > 1:
            image = x.permute(0, 2, 1).reshape(batch, dim, height, width)
            x = self.norm(self.sr(image).reshape(batch, dim, -1).permute(0, 2, 1))
        kv = self.kv(x).reshape(batch, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = (attn.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, dim)
        return self.proj(x)


class MixFfn(nn.Module):
    """Feed-forward with a depthwise convolution in it."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.dw, self.fc2 = (
            nn.Linear(dim, hidden),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.Linear(hidden, dim),
        )

    def forward(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        x = self.fc1(x)
        batch, _, channels = x.shape
        x = self.dw(x.transpose(1, 2).view(batch, channels, height, width)).flatten(2).transpose(1, 2)
        return self.fc2(F.gelu(x))


class SegFormerStage(nn.Module):
    def __init__(self, inp: int, dim: int, kernel: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(inp, dim, kernel, stride, kernel // 2), nn.LayerNorm(dim)
        self.norm1, self.attn = nn.LayerNorm(dim), EfficientAttention(dim, 2, reduction)
        self.norm2, self.mlp, self.norm3 = nn.LayerNorm(dim), MixFfn(dim, 2 * dim), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        batch, dim, height, width = x.shape
        x = self.norm(x.flatten(2).transpose(1, 2))
        x = x + self.attn(self.norm1(x), height, width)
        x = x + self.mlp(self.norm2(x), height, width)
        return self.norm3(x).reshape(batch, height, width, dim).permute(0, 3, 1, 2).contiguous()


class SegFormer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2 = SegFormerStage(3, 16, 7, 4, 2), SegFormerStage(16, 32, 3, 2, 1)
        self.head1, self.head2 = nn.Linear(16, 16), nn.Linear(32, 16)
        self.fuse, self.classify = conv_norm(32, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c1 = self.stage1(x)
        c2 = self.stage2(c1)
        size = c1.shape[2:]
        decoded = []
        for feature, head in ((c2, self.head2), (c1, self.head1)):
            batch, _, height, width = feature.shape
            y = head(feature.flatten(2).transpose(1, 2)).permute(0, 2, 1).reshape(batch, -1, height, width)
            decoded.append(F.interpolate(y, size=size, mode="bilinear", align_corners=False))
        return self.classify(self.fuse(torch.cat(decoded, dim=1)))


@network(images(size=32), attention=True, batch=4)
def segformer() -> nn.Module:
    return SegFormer()


class PSPNet(nn.Module):
    """Pyramid pooling: adaptive average pools to 1, 2, 3 and 6 pixels, brought back bilinearly."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, width, 3, 2), Basic(width, width), Basic(width, 2 * width, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm(2 * width, 8, 1)) for size in (1, 2, 3, 6)
        )
        self.bottleneck = conv_norm(2 * width + 32, 16)
        self.dropout, self.out = nn.Dropout2d(0.1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-2:]
        features = self.backbone(x)
        h, w = features.size(2), features.size(3)
        pyramid = [
            F.interpolate(stage(features), size=(h, w), mode="bilinear", align_corners=False) for stage in self.stages
        ]
        x = self.out(self.dropout(self.bottleneck(torch.cat([features, *pyramid], 1))))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


@network(images(size=48), batch=4)
def pspnet() -> nn.Module:
    return PSPNet()
