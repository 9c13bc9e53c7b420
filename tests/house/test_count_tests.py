#!/usr/bin/env python3
"""The closing line of ./run test counts what a ctest log says."""
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from count_tests import count  # noqa: E402

HEAD = "Start testing: now\n" + "-" * 58 + "\n"


def block(name, output, verdict):
    return f"1/9 Testing: {name}\n1/9 Test: {name}\nOutput:\n{'-' * 58}\n{output}\n<end of output>\n{verdict}\n"


class Counting(unittest.TestCase):
    def count(self, *blocks, status=0):
        return count(HEAD + "".join(blocks), status)

    def test_gtest(self):
        good = block("a", "[  PASSED  ] 12 tests.\n[  SKIPPED ] 2 tests, listed below:\n[  SKIPPED ] A.b", "Test Passed.")
        bad = block("b", "[  PASSED  ] 3 tests.\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] A.b\n\n 1 FAILED TEST", "Test Failed.")
        self.assertEqual(self.count(good), (12, 0, 2))
        self.assertEqual(self.count(good, bad, status=8), (15, 1, 2))

    def test_unittest(self):
        good = block("a", "Ran 8 tests in 0.1s\n\nOK (skipped=1)", "Test Passed.")
        bad = block("b", "Ran 8 tests in 0.1s\n\nFAILED (failures=2, errors=1)", "Test Failed.")
        self.assertEqual(self.count(good), (7, 0, 1))
        self.assertEqual(self.count(bad, status=8), (5, 3, 0))

    def test_programs_count_as_one(self):
        self.assertEqual(self.count(block("a", "hello", "Test Passed.")), (1, 0, 0))
        self.assertEqual(self.count(block("a", "hello", "Test Failed."), status=8), (0, 1, 0))

    def test_a_crash_is_a_failure_even_after_passed_lines(self):
        self.assertEqual(self.count(block("a", "[  PASSED  ] 5 tests.\n==1==ERROR: LeakSanitizer", "Test Failed."), status=8), (5, 1, 0))
        self.assertEqual(self.count(block("a", "[ RUN      ] A.b", "Test timeout computed to be: 300"), status=8), (0, 1, 0))

    def test_a_failed_ctest_never_counts_as_none(self):
        self.assertEqual(count("", 8), (0, 1, 0))
        self.assertEqual(self.count(block("a", "x", "Test Passed."), status=8), (1, 1, 0))


if __name__ == "__main__":
    unittest.main()
