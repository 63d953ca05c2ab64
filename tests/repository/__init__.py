"""Tests of what surrounds the package: documentation, translations, servers, benchmarks."""
