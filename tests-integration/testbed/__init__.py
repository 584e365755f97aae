"""What the tests and benchmarks that need a real server share.

pytest finds this package by `pythonpath` in `pyproject.toml`; a script puts the folder
`tests-integration` on its path.
"""
