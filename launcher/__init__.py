"""Compile an experiment spec into a lock, the lock into an image, and run it as a recorded job."""

__version__ = "0.1.0"
