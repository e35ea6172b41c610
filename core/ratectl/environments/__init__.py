"""Environments: what `ratectl.yaml` declares, which one a command uses, and how each is protected.

``search`` finds the file and refuses one that others may write; ``project`` reads it; ``choosing``
decides which store a command uses; ``protection`` keeps protection with the store's identity;
``survey`` asks every environment for its state.
"""

from ratectl.environments.choosing import Choice, Target, choose
from ratectl.environments.project import Declared, Project, ProjectError
from ratectl.environments.protection import (
    Place,
    Protection,
    Unconfirmed,
    place_of,
    protect,
    unprotect,
)
from ratectl.environments.search import find_project, read_project
from ratectl.environments.survey import Surveyed, survey

__all__ = [
    "Choice",
    "Declared",
    "Place",
    "Project",
    "ProjectError",
    "Protection",
    "Surveyed",
    "Target",
    "Unconfirmed",
    "choose",
    "find_project",
    "place_of",
    "protect",
    "read_project",
    "survey",
    "unprotect",
]
