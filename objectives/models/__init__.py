"""The shipped tiny policy and the script that makes it."""
