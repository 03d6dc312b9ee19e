"""Open-vocabulary image segmentation: name any classes in words, get a mask for each."""
__version__ = "0.1.0"
__all__ = ["Segmenter"]


def __getattr__(name):
    "Public names are imported on first use, so that `import mrovseg_nb` does not wait for torch (PEP 562)."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .app import segmenter
    return getattr(segmenter, name)


def __dir__(): return sorted({*globals(), *__all__})
