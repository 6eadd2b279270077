"""Studies: arms of one recipe trained with the same seeds, and what can be concluded from them.

A study is a TOML file (docs/studies.md).
"""
