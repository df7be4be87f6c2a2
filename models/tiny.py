"""A small network for fast tests: one of each kind of layer that the pipeline has to handle."""

from __future__ import annotations

import torch
from torch import nn


class Tiny(nn.Module):
    """Images [N, in_channels, H, W] -> logits [N, num_classes]; any H, W >= 16; about 10,000 parameters at 10 classes.

    It has conv-bn-relu, max pooling, a residual add, a depthwise, a pointwise and a grouped convolution, global average
    pooling and a linear layer.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 2, padding=1, groups=16, bias=False)
        self.bn4 = nn.BatchNorm2d(16)
        self.pointwise = nn.Conv2d(16, 48, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(48)
        self.relu6 = nn.ReLU6()
        self.grouped = nn.Conv2d(48, 48, 3, padding=1, groups=8)
        self.bn6 = nn.BatchNorm2d(48)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [N, 16, H/4, W/4]
        y = self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(y)) + x)
        x = self.relu6(self.bn4(self.depthwise(x)))  # [N, 16, H/8, W/8]
        x = self.relu(self.bn5(self.pointwise(x)))  # [N, 48, H/8, W/8]
        x = self.relu(self.bn6(self.grouped(x)))
        x = torch.flatten(self.avgpool(x), 1)  # [N, 48]
        logits: torch.Tensor = self.fc(self.dropout(x))
        return logits
