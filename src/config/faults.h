// Faults: a configuration's mistakes, collected, so that one run of the program names them all.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace warmpath::config {

struct Fault {
  std::string file;      // as the user named it; "command line" for flags
  std::size_t line = 0;  // from 1; 0: no line (flags, a missing key of the whole file)
  std::string key;       // "pools[0].engines[1].url", or "--listen"
  std::string message;   // what is wrong, what is allowed, the nearest name
};

// "FILE:LINE: KEY: MESSAGE".
std::string to_text(const Fault& fault);
// One line each, in the order of file and line.
std::string to_text(std::vector<Fault> faults);

}  // namespace warmpath::config
