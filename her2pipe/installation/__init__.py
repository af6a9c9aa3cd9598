"""What is installed beside the package, where it lies, and when it is imported."""
