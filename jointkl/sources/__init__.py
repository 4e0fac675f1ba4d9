"""Evidence: the rows behind the laws that are bound to a source.

`bind` gives every evidence law of a model its rows, checked against its variables' spaces; `load` reads a source that
is built in. Whatever is wrong with data is a `DataError`.
"""

from jointkl.sources.bound import Bound, bind
from jointkl.sources.loaders import load

__all__ = ["Bound", "bind", "load"]
