"""Private servers for tests, demo and benchmarks; each in a folder of its own, on a port of its own."""
