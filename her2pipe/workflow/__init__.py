"""What the Snakemake rules need."""
