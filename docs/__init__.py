"""The pages that a user reads, and that `jointkl help` looks words up in."""
