"""The version, which every emitted module names; `importlib.metadata` would take 20 ms to find it."""

VERSION = "0.1.0"
