"""The torch definitions of what is trained here, and the way out of torch: to run one needs no torch."""
