"""Objects of settings as JSON has them."""

import dataclasses


def fields(settings):
    """Every attribute; what JSON has no word for, as text."""
    values = dataclasses.asdict(settings) if hasattr(type(settings), "__slots__") else vars(settings)
    plain = bool | int | float | list | dict | None
    return {name: value if isinstance(value, plain) else str(value) for name, value in values.items()}
