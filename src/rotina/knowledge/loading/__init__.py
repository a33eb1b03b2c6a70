"""Documents as text: PDF, DOCX, XLSX, CSV, HTML, e-mail and plain text.

`load` reads in this process; `load_in_child` in a process of its own, which is what a service that
takes other people's files wants.
"""

from rotina.knowledge.loading.isolation import load_in_child
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.loader import load

__all__ = ["Limits", "load", "load_in_child"]
