// Log: lines on stderr, buffered: whoever logs never waits for a terminal or a pipe. Private to app.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/base.h"
#include "config/gateway_config.h"
#include "proxy/proxy.h"

namespace warmpath::app {

struct Field {
  std::string_view name;
  std::variant<std::string_view, std::uint64_t, double, bool> value;
};

// Thread rule: any thread. A line costs a format and a short lock; a writer thread flushes every 100 ms. Bounded:
// beyond 8 MiB unwritten, lines are dropped and counted in a line of their own. Control characters are escaped.
class Log {
 public:
  // `write` gets whole lines; empty: stderr.
  Log(config::LogLevel level, config::LogFormat format, std::function<void(std::string_view)> write = {});
  ~Log();  // flushes
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // text: `TIME LEVEL EVENT name=value …`; JSON: {"ts","level","event",…}.
  void line(config::LogLevel level, std::string_view event, std::initializer_list<Field> fields);
  void info(std::string_view event, std::initializer_list<Field> fields) {
    line(config::LogLevel::kInfo, event, fields);
  }
  void warn(std::string_view event, std::initializer_list<Field> fields) {
    line(config::LogLevel::kWarning, event, fields);
  }
  // The access log line.
  void request(const proxy::AccessRecord& record);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::app
