"""New projects: one importable package made from the `agents`, `workflows` and `workers` folders.

The folders are a real project. They are the ones of the checkout, or their copy in the wheel
(`rotina/_scaffold`), and are rewritten so that nothing importable has a name as general as
`agents`, which other distributions install.
"""

from rotina.scaffold.errors import ScaffoldError
from rotina.scaffold.project import create_project

__all__ = ["ScaffoldError", "create_project"]
