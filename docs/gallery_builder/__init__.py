"""Every picture of the lab on one page, `docs/gallery.md`, written by `make gallery`."""

from gallery_builder.page import write_gallery

__all__ = ["write_gallery"]
