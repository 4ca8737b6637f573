"""The patent's networks in PyTorch; imported by training and tests only, never by the app."""
