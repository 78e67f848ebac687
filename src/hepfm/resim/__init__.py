"""Re-simulation campaigns."""
