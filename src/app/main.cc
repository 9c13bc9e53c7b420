#include <csignal>
#include <string>
#include <vector>

#include "app/app.h"

int main(int argc, char** argv) {
  // A reader that went away is an answer of write(), never a death.
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
  return warmpath::app::run_app(args);
}
