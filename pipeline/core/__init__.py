"""The vocabulary every other part speaks. Imports nothing else of the project."""
