"""What one GPU does, beside what is planned for it: `python -m benchmarks.gpu`."""
