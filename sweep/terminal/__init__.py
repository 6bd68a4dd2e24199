"""What people read in 80 columns."""
