"""Errors for the person at the keyboard: what was wrong, where, and what is accepted."""

from __future__ import annotations

import errno


class FunctionalSelfError(Exception):
    """A problem the user can fix; its message is one line and the command line exits with 2."""


class MaterialError(FunctionalSelfError):
    """A material file (items, specification, contexts, personas) is not valid."""


class SubjectError(FunctionalSelfError):
    """A subject is unknown, cannot be fetched, or its files do not check."""


class TermsError(SubjectError):
    """A subject has terms of use that were not accepted; it is not fetched without that."""


class RemoteError(SubjectError):
    """An NDIF server cannot be reached, refuses, or failed; what is known of the job is in the journal."""


class UnknownOutcomeError(RemoteError):
    """A job was sent and nothing says whether the server took it."""


class OrganismError(FunctionalSelfError):
    """An organism is unknown, its recipe or card is not valid, or its training cannot go on."""


class CrosscoderError(FunctionalSelfError):
    """A crosscoder's settings, files or activations do not fit."""


class ParameterError(FunctionalSelfError):
    """A chapter, preset or parameter is unknown, of the wrong type, or out of range."""


class RunError(FunctionalSelfError):
    """A run could not be executed, found, read or published."""


_FIXES = {
    errno.ENOSPC: "the disk is full; free some space or set another directory",
    errno.EDQUOT: "the disk quota is used up; free some space or set another directory",
    errno.EACCES: "no permission to write there; set another directory or change its permissions",
    errno.EPERM: "no permission to write there; set another directory or change its permissions",
    errno.EROFS: "the file system is read-only; set another directory",
}


def one_line(error: BaseException) -> str:
    """The error as one line: its own words, or for a system error the path and the fix."""
    if isinstance(error, OSError) and error.errno in _FIXES:
        where = error.filename or "a temporary file"
        return f"{where}: {_FIXES[error.errno]} ({type(error).__name__}, errno {error.errno})"
    text = " ".join(str(error).split())
    return text if isinstance(error, FunctionalSelfError) else f"{type(error).__name__}: {text}"
