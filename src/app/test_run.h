// A command run in this process, its output kept. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "app/commands.h"

namespace warmpath::app::testing {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

// `run` is run_app or one command's own entry.
inline Outcome outcome_of(int (*run)(std::span<const std::string>), const std::vector<std::string>& args) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Outcome outcome;
  outcome.code = run(args);
  std::fflush(stdout);
  outcome.out = ::testing::internal::GetCapturedStdout();
  outcome.err = ::testing::internal::GetCapturedStderr();
  return outcome;
}

}  // namespace warmpath::app::testing
