// The table's rows, private to config.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/base.h"
#include "config/gateway_config.h"
#include "config/gateway_table.h"

namespace warmpath::config {

enum class Kind : std::uint8_t {
  kText,
  kAddress,  // HOST:PORT to listen on
  kUrl,      // of an engine
  kSize,
  kTime,
  kNumber,
  kSwitch,  // true or false
  kChoice,  // one of Row::words, or of the policies
  kPolicy,
  kList,
  kKvEvents,  // ZMQ addresses of an engine
  kKvReplay,
};

// Where a row's value lives.
using Field = std::variant<std::string*, std::uint64_t*, std::uint32_t*, Duration*, bool*, LogLevel*, LogFormat*,
                           AskEngine*, std::vector<std::string>*, std::optional<KvSource>*>;

template <class Owner>
struct Row {
  std::string_view key;   // path in YAML below its owner: "limits.head_bytes_max"
  std::string_view flag;  // without dashes; empty: file only
  Kind kind = Kind::kText;
  std::string_view placeholder;
  std::uint64_t min = 0;  // kNumber, kSize: value; kTime: milliseconds
  std::uint64_t max = 0;
  std::string_view help;
  Field (*field)(Owner&) = nullptr;
  std::span<const std::string_view> words;  // kChoice
};

std::span<const Row<GatewayConfig>> gateway_rows();
std::span<const Row<PoolConfig>> pool_rows();
std::span<const Row<EngineConfig>> engine_rows();

// What a row takes, whoever owns it.
struct Rule {
  Kind kind = Kind::kText;
  std::uint64_t min = 0;
  std::uint64_t max = 0;
  std::span<const std::string_view> words;
};
template <class Owner>
Rule rule_of(const Row<Owner>& row) {
  return Rule{row.kind, row.min, row.max, row.words};
}

// Reads `text` into `field`; a list is appended to. kInvalid: "takes …, not '…'".
Result<void> set_field(const Rule& rule, const Field& field, std::string_view text, const Checks& checks);
// The value as a user would write it; "" when unset.
std::string field_text(const Rule& rule, const Field& field);
// "1 to 64", "http://HOST:PORT or https://…", for messages and docs.
std::string allowed_text(const Rule& rule);
std::string_view type_text(Kind kind);

// Checks over several values. `line_of` gives the line of a key, 0 when it was not in a file.
struct Place {
  std::string file;
  std::size_t line = 0;
};
class Places {
 public:
  virtual ~Places() = default;
  virtual Place of(std::string_view key) const = 0;
};
void check_gateway(const GatewayConfig& config, const Checks& checks, const Places& places, std::vector<Fault>& faults);

}  // namespace warmpath::config
