#include "config/faults.h"

#include <algorithm>
#include <tuple>

namespace warmpath::config {

std::string to_text(const Fault& fault) {
  std::string out = fault.file;
  if (fault.line != 0) out += ":" + std::to_string(fault.line);
  if (!fault.key.empty()) out += (out.empty() ? "" : ": ") + fault.key;
  return out + (out.empty() ? "" : ": ") + fault.message;
}

std::string to_text(std::vector<Fault> faults) {
  std::stable_sort(faults.begin(), faults.end(),
                   [](const Fault& a, const Fault& b) { return std::tie(a.file, a.line) < std::tie(b.file, b.line); });
  std::string out;
  for (const Fault& fault : faults) out += to_text(fault) + "\n";
  return out;
}

}  // namespace warmpath::config
