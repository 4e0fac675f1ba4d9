"""A derivation in every format: what `Derivation.text`, `.markdown`, `.latex` and `.html` return."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jointkl.derivation.record import Derivation
from jointkl.exposition import latex, markdown, text, webpage
from jointkl.exposition.outline import outline

FORMATS: Mapping[str, Callable[[Derivation], str]] = {
    "text": lambda derivation: text.text(outline(derivation)),
    "markdown": lambda derivation: markdown.page(outline(derivation)),
    "latex": lambda derivation: latex.document(outline(derivation)),
    "html": lambda derivation: webpage.page(outline(derivation)),
}
