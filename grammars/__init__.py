"""The grammar of the .jkl language."""
