// Flags: the options of one command, each said once: reading, --help and completion follow.
//
//   std::uint64_t blocks = 64;
//   Format format = Format::kTable;
//   Flags flags("blocks", "token ids -> block keys");
//   flags.number("block-size", "N", "tokens a block", &blocks, 1, 4096).format(&format);
//   flags.example("warmpath blocks --block-size 16 --ids 1,2,3", "one chain");
//   if (const auto code = flags.read(args)) return *code;
//
// Forms: `--name value` and `--name=value`; a toggle is `--name` alone; `--` ends the options. An option given twice is
// a fault unless it is a list. Unset options leave their variable alone, so a default is what the variable held before.
// Thread rule: one owner. Pointers must stay valid until read() or parse() returns.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/base.h"

namespace warmpath::config {

enum class Format : std::uint8_t { kTable, kJson };

// Writes to stdout and flushes. False: it could not, and stderr says why, unless the reader has closed the pipe.
bool print(std::string_view text);

class Flags {
 public:
  // `command` without the program's name ("events decode"); `summary` one sentence without full stop.
  Flags(std::string_view command, std::string_view summary);

  Flags& text(std::string_view name, std::string_view placeholder, std::string_view help, std::string* out);
  Flags& text(std::string_view name, std::string_view placeholder, std::string_view help,
              std::optional<std::string>* out);
  // May be given several times.
  Flags& list(std::string_view name, std::string_view placeholder, std::string_view help,
              std::vector<std::string>* out);
  template <class T>
    requires std::is_unsigned_v<T>
  Flags& number(std::string_view name, std::string_view placeholder, std::string_view help, T* out,
                std::type_identity_t<T> min = 0, std::type_identity_t<T> max = std::numeric_limits<T>::max()) {
    return whole(name, placeholder, help, *out, min, max, [out](std::uint64_t v) { *out = static_cast<T>(v); });
  }
  template <class T>
    requires std::is_unsigned_v<T>
  Flags& number(std::string_view name, std::string_view placeholder, std::string_view help, std::optional<T>* out,
                std::type_identity_t<T> min = 0, std::type_identity_t<T> max = std::numeric_limits<T>::max()) {
    return whole(name, placeholder, help, std::nullopt, min, max, [out](std::uint64_t v) { *out = static_cast<T>(v); });
  }
  Flags& real(std::string_view name, std::string_view placeholder, std::string_view help, double* out, double min,
              double max);
  // "500ms", "30s", "2m", "1h", "0".
  Flags& duration(std::string_view name, std::string_view help, Duration* out);
  Flags& toggle(std::string_view name, std::string_view help, bool* out);
  // Checked against `allowed` (at least one; must outlive the Flags).
  Flags& choice(std::string_view name, std::string_view help, std::string* out,
                std::span<const std::string_view> allowed);
  Flags& format(Format* out);  // --format table|json
  // Anything else: `read` turns the text into a value or says what is wrong (message without the option's name).
  Flags& custom(std::string_view name, std::string_view placeholder, std::string_view help,
                std::function<Result<void>(std::string_view)> read, std::string_view default_text = {});
  // As custom, and may be given several times.
  Flags& custom_list(std::string_view name, std::string_view placeholder, std::string_view help,
                     std::function<Result<void>(std::string_view)> read);
  // Words without dashes; without this call there may be none.
  Flags& positionals(std::string_view placeholder, std::string_view help, std::vector<std::string>* out,
                     std::size_t min, std::size_t max);
  Flags& required(std::string_view name);
  Flags& example(std::string_view line, std::string_view what);
  Flags& note(std::string_view paragraph);  // closes --help

  // nullopt: go on. Else the exit code: help was printed to stdout (0) or the faults to stderr (2).
  [[nodiscard]] std::optional<int> read(std::span<const std::string> args);

  // The same without printing: `faults` empty and no help asked -> go on.
  struct Parsed {
    bool help = false;
    bool list_options = false;        // hidden --list-options, for completion
    std::vector<std::string> faults;  // all of them, one line each
    std::vector<std::string> given;   // names of the options that were there
  };
  Parsed parse(std::span<const std::string> args);
  std::string help_text() const;
  std::string option_names() const;  // "--listen\n--model\n…"

 private:
  enum class Arity : std::uint8_t { kValue, kList, kToggle };
  struct Option {
    std::string name;
    std::string placeholder;
    std::string help;
    std::string default_text;
    Arity arity = Arity::kValue;
    bool required = false;
    bool seen = false;
    std::vector<std::string_view> allowed;
    std::function<Result<void>(std::string_view)> set;
  };
  Flags& add(Option option);
  Flags& whole(std::string_view name, std::string_view placeholder, std::string_view help,
               std::optional<std::uint64_t> default_value, std::uint64_t min, std::uint64_t max,
               std::function<void(std::uint64_t)> set);
  Option* find(std::string_view name);
  void unknown(std::string_view name, Parsed& parsed) const;

  std::string command_;
  std::string summary_;
  std::vector<Option> options_;
  std::string positional_name_;
  std::string positional_help_;
  std::vector<std::string>* positionals_ = nullptr;
  std::size_t positionals_min_ = 0;
  std::size_t positionals_max_ = 0;
  std::vector<std::pair<std::string, std::string>> examples_;
  std::vector<std::string> notes_;
};

// "500ms", "1.5s", "2m", "1h", "0"; kInvalid says what is allowed.
Result<Duration> parse_duration(std::string_view text);
std::string duration_text(Duration duration);  // the shortest exact form of the above
// "16MiB", "64KiB", "1GiB", plain bytes.
Result<std::uint64_t> parse_size(std::string_view text);
std::string size_text(std::uint64_t bytes);

}  // namespace warmpath::config
