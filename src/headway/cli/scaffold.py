"""What ``headway init`` writes: a model that runs without installing anything and shows the contract."""

from __future__ import annotations

from pathlib import Path

MODEL = '''"""A model for Headway. Replace the body of load and predict with your own."""


class Model:
    def load(self):
        """Runs once, before the model takes requests: read weights, open files, warm up."""
        self.names = ["short", "long"]

    def predict(self, X, features_names=None):
        """X holds one row per item to predict; return one answer per row.

        X is a NumPy array where NumPy is installed, else a list of lists. Annotate it to choose:
        ``X: pandas.DataFrame`` for columns by name, ``X: dict`` for the raw JSON body.
        """
        return [self.names[int(sum(row) > 10)] for row in X]
'''

R_MODEL = """# A model for Headway. Replace the bodies of load and predict with your own.

# The columns of X, as a data frame whose rows do not matter: requests are checked against it, text becomes factors and
# dates as it says. Leave it out, and columns are numeric, logical or character, as they come.
features <- data.frame(length = numeric(), width = numeric(), height = numeric())

# Runs once, before the model takes requests: read weights with readRDS, open files, warm up.
load <- function() {
  sizes <<- c("short", "long")
}

# X is a data frame with one row per item to predict; return one answer per row.
predict <- function(X, features_names) {
  sizes[1 + (rowSums(X) > 10)]
}
"""

R_PACKAGES = """# Packages that the model needs, one a line, such as: jsonlite (>= 1.8)
# A deploy checks that they are installed; nothing is installed by it.
"""

SPEC = """apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: {name}
spec:
{entrypoint}  resources:
    memory: 512Mi
  # Replicas and traffic are left open, so that a deploy keeps what `headway scale` and `headway traffic` have set.
"""

SAMPLE = "[[1, 2, 3], [4, 5, 6]]\n"

README = """# {name}

- `model.py`: the model. `load` runs once, `predict` for every request.
- `sample.json`: an example request. Headway predicts it before a new version goes live.
- `headway.yaml`: name, entry point, memory. `headway schema` prints every field there is.
- `requirements.txt` (yours to add): packages the model needs; they get an environment of their own.

```
headway up --detach
headway deploy .
headway predict {name} -d @sample.json
```
"""


R_README = """# {name}

- `model.R`: the model. `load` runs once, `predict` for every request.
- `R-packages.txt`: packages of R that it needs; a deploy checks that they are there.
- `sample.json`: an example request. Headway predicts it before a new version goes live.
- `headway.yaml`: name, memory. `headway schema` prints every field there is.

```
headway up --detach
headway deploy .
headway predict {name} -d @sample.json
```
"""


def write(folder: Path, name: str) -> list[str]:
    """Write the files of a new model called ``name``; their names."""
    entrypoint = '  model:\n    entrypoint: "model:Model"\n'
    return _write(
        folder,
        {
            "model.py": MODEL,
            "headway.yaml": SPEC.format(name=name, entrypoint=entrypoint),
            "sample.json": SAMPLE,
            "README.md": README.format(name=name),
        },
    )


def write_r(folder: Path, name: str) -> list[str]:
    """The same for a model in R."""
    return _write(
        folder,
        {
            "model.R": R_MODEL,
            "R-packages.txt": R_PACKAGES,
            "headway.yaml": SPEC.format(name=name, entrypoint=""),
            "sample.json": SAMPLE,
            "README.md": R_README.format(name=name),
        },
    )


def _write(folder: Path, files: dict[str, str]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    return list(files)
