"""The systems of the papers, one spec each."""
