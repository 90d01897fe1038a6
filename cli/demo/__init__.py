"""`triton demo`: three releases in a sandbox of its own, with checks of their course."""

from cli.demo.play import play

__all__ = ["play"]
