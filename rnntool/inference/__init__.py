"""Running trained models: engines, pipelines, sampling, beam search, and the Python interface."""
