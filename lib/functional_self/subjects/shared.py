"""Subjects that share a base's weights: adapters are swapped in place, so that a sweep loads the base once."""

from __future__ import annotations

from typing import Any

from functional_self.errors import SubjectError
from functional_self.subjects.model import LanguageSubject


class SharedSubject(LanguageSubject):
    """A subject that shares its base's weights: reading ``model`` first puts this one's adapter, or none, in place."""

    def __init__(self, model: Any, adapter: str | None, *rest: Any):
        self.adapter = adapter
        super().__init__(model, *rest)

    @property
    def model(self) -> Any:
        """The base with this subject's adapter and no other."""
        attach(self._shared, self.adapter, self.name)
        return self._shared

    @model.setter
    def model(self, shared: Any) -> None:
        self._shared = shared


def attach(model: Any, adapter: str | None, name: str) -> None:
    """Put an adapter (a directory or a hub repository), or none, in place of the last; SubjectError where it does not fit."""
    if model.peft == adapter:
        return
    try:
        model.load_adapter(adapter)
    except (ValueError, RuntimeError, KeyError) as error:
        raise SubjectError(
            f"subject '{name}': the adapter does not fit its base: {' '.join(str(error).split())[:200]}"
        ) from error
