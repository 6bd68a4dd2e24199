"""Calling reward functions of anyone's."""
