"""Tests of single modules; the tree is the package's."""
