"""One error type for everything a user can mend; its text is one plain sentence that says what to do."""


class AgeEditError(ValueError):
    """A request that cannot be served as given. The command line exits with 2, the page shows the text."""
