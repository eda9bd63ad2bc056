"""The lowest versions that pyproject.toml says it works with, as pip takes them.

python -m tests.supply_chain.lowest > lowest.txt
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("aws", "azure", "gcp", "flows")


def lowest() -> list[str]:
    """`name==version` of each direct dependency, those of the extras included.

    Raises:
        ValueError: One has no lower bound.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    pinned = []
    for requirement in map(Requirement, listed):
        bounds = [part.version for part in requirement.specifier if part.operator in (">=", "==", "~=")]
        if not bounds:
            raise ValueError(f"{requirement.name} has no lower bound")
        pinned.append(f"{requirement.name}=={bounds[0]}")
    return pinned


if __name__ == "__main__":
    print("\n".join(lowest()))
