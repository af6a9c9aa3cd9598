"""Networks that timm lacks, which register themselves (`registry.ENCODERS`)."""
