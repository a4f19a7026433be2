"""What people run: ape scripts, the demo, benchmarks, set-up."""
