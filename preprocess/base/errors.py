"""What a user's mistake raises: each message says where, what was found, what was expected, and the remedy."""

from __future__ import annotations


class DataError(ValueError):
    """A user's data or vocabulary can't be used; the message names the file, what was found and the remedy."""


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message names the file, what was found, what was expected and the remedy."""


class UsageError(ValueError):
    """The options can't be carried out; the message says what was found, what was expected and the remedy."""


class TrainingError(RuntimeError):
    """Training can't go on; the message says at which step and why."""


class LostPeerError(RuntimeError):
    """Another process of the run has ended, and this one can't go on without it."""
