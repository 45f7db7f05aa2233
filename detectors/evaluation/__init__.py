"""How good models are: figures from findings and truth. No torch, no runtime, no files."""
