"""Confirmation: every rank's frozen configuration on the same fresh seeds."""
