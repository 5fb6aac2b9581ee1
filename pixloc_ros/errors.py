"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Something that was given cannot be used; the message says what and where, in one line."""
