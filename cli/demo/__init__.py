"""`triton demo`: three releases in a sandbox of its own, and the proof that they went as they should."""

from cli.demo.play import play

__all__ = ["play"]
