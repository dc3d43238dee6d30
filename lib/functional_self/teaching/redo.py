"""A chapter's verdicts again, from its shipped score tables, with a parameter changed: seconds, and no model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from functional_self import paths
from functional_self.errors import ParameterError
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, published


def redo(chapter: str, **changed: Any) -> dict[str, Any]:
    """Results by name of a chapter's published run, its statistics computed again with some parameters changed.

    No subject is asked: ``scores`` reads the run's tables. What a table does not hold, such as more items, cannot be had so.

    Args:
        chapter: its name, for example ``04-internalisation``.
        changed: parameters of the chapter and their new values; checked as those of ``functional-self run``.

    Returns:
        The value of every result that the chapter records; verdicts are called ``verdict/...``.

    Raises:
        ParameterError: the chapter has no published run, nothing was changed, an unknown parameter, or ``subjects``.
        RunError: a table that the change needs is not shipped.
    """
    loaded, source = chapters.load(chapter), published.find(chapter)
    if source is None:
        raise ParameterError(f"redo: chapter '{chapter}' has no published run")
    if not changed or "subjects" in changed:
        raise ParameterError("redo: name a parameter to change; other subjects must be asked: functional-self run")
    parameters = {**source.manifest["parameters"]}
    for name, value in changed.items():
        if name not in loaded.parameters:
            raise ParameterError(f"redo: chapter '{chapter}' has no parameter '{name}'; it has {', '.join(loaded.parameters)}")
        parameters[name] = loaded.parameters[name].check(value, "redo")
    with paths.staging(Path(tempfile.gettempdir()), prefix=".functional-self-") as scratch:
        notebook = execute._execute(loaded, parameters, scratch / "run", scratch, redo=source.path)
        results, _, _ = execute.harvest(notebook)
    return {name: result["value"] for name, result in results.items()}
