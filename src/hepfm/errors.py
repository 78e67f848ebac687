"""Errors that a user can act on. Everything hepfm raises on purpose derives from HepfmError."""


class HepfmError(Exception):
    """Something the user asked for cannot be done; the message says what, what was expected, and what to do."""


class InputError(HepfmError):
    """A file or a setting given by the user is wrong."""


class CampaignError(HepfmError):
    """A campaign folder is missing, damaged, or belongs to another campaign."""


class GeneratorError(HepfmError):
    """The event generator refused its settings or cannot go on."""


class StorageError(HepfmError):
    """A file cannot be written, or the store that holds it cannot be reached."""
