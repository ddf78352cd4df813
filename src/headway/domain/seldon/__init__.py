"""SeldonDeployment documents, read as what Headway has for them. Pure: folders are asked for, none is looked at.

What Headway does in another way is told in a note. What it cannot honour is refused by name, with its place and what
can be done instead; nothing is passed over. Field names and meaning: Seldon Core 1, "SeldonDeployment" reference
(``machinelearning.seldon.io/v1``), KEDA's and Kubernetes' own for what is embedded of them.
"""

from headway.domain.seldon.document import Translation, is_seldon, translate
from headway.domain.seldon.graph import Folders

__all__ = ["Folders", "Translation", "is_seldon", "translate"]
