"""Published encoders by name: what building and feeding each takes, and where its weights are.

One YAML file per group of authors, one entry per encoder; a plugin registers a `Preset` of its own.
Nothing here imports torch.
"""
