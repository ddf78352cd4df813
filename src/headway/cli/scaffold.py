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

SPEC = """apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: {name}
spec:
  model:
    entrypoint: "model:Model"
  resources:
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


def write(folder: Path, name: str) -> list[str]:
    """Write the files of a new model called ``name``; their names."""
    files = {
        "model.py": MODEL,
        "headway.yaml": SPEC.format(name=name),
        "sample.json": SAMPLE,
        "README.md": README.format(name=name),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    return list(files)
