"""GLOW, an invertible network with public weights, and the public bottleneck behind it."""
