"""Networks of :mod:`tests.networks` as modules of PyTorch, for benchmarks where it is installed."""


def resnet18(width=64):
  """A module for images of ``(batch, 3, height, width)``; ``width`` channels in the first stage."""
  from torch import nn  # in here, as pytest looks for doctests in this file

  def conv_norm(inputs, outputs, size, stride=1):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))

  class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
      super().__init__()
      self.first = conv_norm(inputs, outputs, 3, stride)
      self.second = conv_norm(outputs, outputs, 3)
      changes = (inputs, stride) != (outputs, 1)
      self.shortcut = conv_norm(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x):
      return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()

  class ResNet(nn.Module):
    def __init__(self):
      super().__init__()
      widths = [width << stage for stage in range(4)]
      blocks = [nn.Sequential(conv_norm(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))]
      for inputs, outputs in zip([width, *widths], widths):
        blocks.append(Block(inputs, outputs, 1 if outputs == width else 2))
        blocks.append(Block(outputs, outputs, 1))
      self.body, self.head = nn.Sequential(*blocks), nn.Linear(widths[-1], 1000)

    def forward(self, x):
      return self.head(self.body(x).mean((2, 3)))

  return ResNet()
