"""Reward functions of every kind that people write, one a file: a `reward`, and what is to become of it.

`SAYS` is part of the one line that refuses it, wherever it is called. Where there is none, it is taken, and `weighs`
says what it comes to for a row and a completion; None for no reward at all.
"""
