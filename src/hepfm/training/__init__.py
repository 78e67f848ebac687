"""What brings jets and networks together. It needs the `models` extra."""
