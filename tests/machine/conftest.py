"""The shared fixtures of the tests that use the real engine."""

from tests.machine.fixtures import engine, pi, runtime, wire

__all__ = ["engine", "pi", "runtime", "wire"]
