"""The two ways in which a question goes without the answer that was hoped for, neither of them a fault."""


class RefusedError(Exception):
    """The request cannot be followed, and a real server would say so as well."""


class UnansweredError(Exception):
    """labgate has no answer to this, though a real server has."""
