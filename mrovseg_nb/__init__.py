"""Open-vocabulary image segmentation: name any classes in words, get a mask for each."""
from importlib import import_module

__version__ = "0.1.0"

_MODULES = {    # public name -> module
    'Segmenter': 'app.segmenter',
    'list_models': 'methods.registry', 'create_model': 'methods.registry', 'load_model': 'methods.registry',
    'from_folder': 'data.own_data', 'from_coco': 'data.own_data', 'from_dataset': 'data.own_data',
    'from_shards': 'data.own_data', 'load_benchmark': 'benchmarks.benchmarks',
    'train': 'app.training', 'evaluate': 'evaluation.evaluate',
}
__all__ = sorted(_MODULES)


def __getattr__(name):
    "Public names are imported on first use, so that `import mrovseg_nb` does not wait for torch (PEP 562)."
    if name not in _MODULES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .basics.docstrings import document_parameters    # help() tells what the parameters mean
    value = document_parameters(getattr(import_module(f'.{_MODULES[name]}', __name__), name))
    globals()[name] = value
    return value


def __dir__(): return sorted({*globals(), *__all__})
