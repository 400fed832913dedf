"""Studies that replicate papers on safety fine-tuning, and their common command line."""
