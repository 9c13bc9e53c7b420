#include "config/flags.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace warmpath::config {
namespace {

constexpr std::size_t kHelpWidth = 100;

std::string joined(std::span<const std::string_view> words, std::string_view between) {
  std::string out;
  for (const std::string_view word : words) out.append(out.empty() ? "" : between).append(word);
  return out;
}

// Appends `text` wrapped at kHelpWidth, every line after the first indented.
void append_wrapped(std::string& out, std::string_view text, std::size_t column, std::size_t indent) {
  for (const std::string_view word : split(text, ' ')) {
    if (column > indent && column + 1 + word.size() > kHelpWidth) {
      out.append("\n").append(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  out += '\n';
}

std::string shortest(double number) {
  JsonWriter w;
  w.value(number);
  return w.take();
}

}  // namespace

Flags::Flags(std::string_view command, std::string_view summary) : command_(command), summary_(summary) {}

Flags::Option* Flags::find(std::string_view name) {
  const auto at = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.name == name; });
  return at == options_.end() ? nullptr : &*at;
}

Flags& Flags::add(Option option) {
  WP_CHECK(find(option.name) == nullptr);
  options_.push_back(std::move(option));
  return *this;
}

Flags& Flags::text(std::string_view name, std::string_view placeholder, std::string_view help, std::string* out) {
  return custom(
      name, placeholder, help,
      [out](std::string_view value) -> Result<void> {
        *out = value;
        return {};
      },
      *out);
}

Flags& Flags::text(std::string_view name, std::string_view placeholder, std::string_view help,
                   std::optional<std::string>* out) {
  return custom(name, placeholder, help, [out](std::string_view value) -> Result<void> {
    *out = std::string(value);
    return {};
  });
}

Flags& Flags::list(std::string_view name, std::string_view placeholder, std::string_view help,
                   std::vector<std::string>* out) {
  return custom_list(name, placeholder, help, [out](std::string_view value) -> Result<void> {
    out->emplace_back(value);
    return {};
  });
}

Flags& Flags::whole(std::string_view name, std::string_view placeholder, std::string_view help,
                    std::optional<std::uint64_t> default_value, std::uint64_t min, std::uint64_t max,
                    std::function<void(std::uint64_t)> set) {
  const auto read = [min, max, set = std::move(set)](std::string_view value) -> Result<void> {
    const auto number = parse_u64(value);
    if (!number || *number < min || *number > max) {
      const bool bounded = max <= (std::uint64_t{1} << 53);
      return Error{ErrorKind::kInvalid, "takes a whole number " +
                                            (bounded ? "from " + std::to_string(min) + " to " + std::to_string(max)
                                                     : "of at least " + std::to_string(min)) +
                                            ", not '" + std::string(value) + "'"};
    }
    set(*number);
    return {};
  };
  return custom(name, placeholder, help, read, default_value ? std::to_string(*default_value) : std::string());
}

Flags& Flags::real(std::string_view name, std::string_view placeholder, std::string_view help, double* out, double min,
                   double max) {
  const auto read = [out, min, max](std::string_view value) -> Result<void> {
    const auto number = parse_double(value);
    if (!number || *number < min || *number > max) {
      return Error{ErrorKind::kInvalid, "takes a number from " + shortest(min) + " to " + shortest(max) + ", not '" +
                                            std::string(value) + "'"};
    }
    *out = *number;
    return {};
  };
  return custom(name, placeholder, help, read, shortest(*out));
}

Flags& Flags::duration(std::string_view name, std::string_view help, Duration* out) {
  const auto read = [out](std::string_view value) -> Result<void> {
    auto parsed = parse_duration(value);
    if (!parsed) return std::move(parsed).error();
    *out = *parsed;
    return {};
  };
  return custom(name, "TIME", help, read, duration_text(*out));
}

Flags& Flags::toggle(std::string_view name, std::string_view help, bool* out) {
  Option option{.name = std::string(name), .help = std::string(help), .arity = Arity::kToggle};
  option.set = [out](std::string_view) -> Result<void> {
    *out = true;
    return {};
  };
  return add(std::move(option));
}

Flags& Flags::choice(std::string_view name, std::string_view help, std::string* out,
                     std::span<const std::string_view> allowed) {
  WP_CHECK(!allowed.empty());
  const auto read = [out, allowed](std::string_view value) -> Result<void> {
    if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
      std::string message = "takes one of " + joined(allowed, ", ") + ", not '" + std::string(value) + "'";
      if (const auto near = nearest_name(value, allowed)) message += "; did you mean '" + std::string(*near) + "'?";
      return Error{ErrorKind::kInvalid, std::move(message)};
    }
    *out = value;
    return {};
  };
  return custom(name, joined(allowed, "|"), help, read, *out);
}

Flags& Flags::format(Format* out) {
  static constexpr std::array<std::string_view, 2> kAllowed = {"table", "json"};
  const auto read = [out](std::string_view value) -> Result<void> {
    if (value != "table" && value != "json") {
      return Error{ErrorKind::kInvalid, "takes one of table, json, not '" + std::string(value) + "'"};
    }
    *out = value == "json" ? Format::kJson : Format::kTable;
    return {};
  };
  return custom("format", joined(kAllowed, "|"), "how to print the result: for people or for programs", read,
                *out == Format::kJson ? "json" : "table");
}

Flags& Flags::custom(std::string_view name, std::string_view placeholder, std::string_view help,
                     std::function<Result<void>(std::string_view)> read, std::string_view default_text) {
  Option option{.name = std::string(name), .placeholder = std::string(placeholder), .help = std::string(help)};
  option.default_text = default_text;
  option.set = std::move(read);
  return add(std::move(option));
}

Flags& Flags::custom_list(std::string_view name, std::string_view placeholder, std::string_view help,
                          std::function<Result<void>(std::string_view)> read) {
  Option option{.name = std::string(name), .placeholder = std::string(placeholder), .help = std::string(help)};
  option.arity = Arity::kList;
  option.set = std::move(read);
  return add(std::move(option));
}

Flags& Flags::positionals(std::string_view placeholder, std::string_view help, std::vector<std::string>* out,
                          std::size_t min, std::size_t max) {
  positional_name_ = placeholder;
  positional_help_ = help;
  positionals_ = out;
  positionals_min_ = min;
  positionals_max_ = max;
  return *this;
}

Flags& Flags::required(std::string_view name) {
  Option* option = find(name);
  WP_CHECK(option != nullptr);
  option->required = true;
  return *this;
}

Flags& Flags::example(std::string_view line, std::string_view what) {
  examples_.emplace_back(line, what);
  return *this;
}

Flags& Flags::note(std::string_view paragraph) {
  notes_.emplace_back(paragraph);
  return *this;
}

void Flags::unknown(std::string_view name, Parsed& parsed) const {
  std::vector<std::string_view> names;
  for (const Option& option : options_) names.push_back(option.name);
  std::string line = "there is no option '--" + std::string(name) + "'";
  if (const auto near = nearest_name(name, names)) line += "; did you mean '--" + std::string(*near) + "'?";
  parsed.faults.push_back(std::move(line));
}

Flags::Parsed Flags::parse(std::span<const std::string> args) {
  Parsed parsed;
  std::vector<std::string> words;
  for (Option& option : options_) option.seen = false;
  bool options_ended = false;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    if (options_ended || arg.size() < 2 || arg[0] != '-') {
      words.emplace_back(arg);
      continue;
    }
    if (arg == "--") {
      options_ended = true;
      continue;
    }
    if (arg == "--help" || arg == "-h") {
      parsed.help = true;
      return parsed;
    }
    if (arg == "--list-options") {
      parsed.list_options = true;
      return parsed;
    }
    if (!arg.starts_with("--")) {
      parsed.faults.push_back("'" + std::string(arg) + "' is no option: options start with two dashes");
      continue;
    }
    const auto equals = arg.find('=');
    const std::string_view name = arg.substr(2, equals == std::string_view::npos ? equals : equals - 2);
    Option* option = find(name);
    if (option == nullptr) {
      unknown(name, parsed);
      // A value that belongs to the unknown option is no fault of its own.
      if (equals == std::string_view::npos && i + 1 < args.size() && !args[i + 1].starts_with("-")) ++i;
      continue;
    }
    const std::string dashed = "--" + option->name;
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = arg.substr(equals + 1);
      if (option->arity == Arity::kToggle) {
        parsed.faults.push_back(dashed + " takes no value");
        continue;
      }
    } else if (option->arity != Arity::kToggle) {
      if (i + 1 == args.size() || args[i + 1].starts_with("--")) {
        parsed.faults.push_back(dashed + " needs a value: " + dashed + " " + option->placeholder);
        continue;
      }
      value = args[++i];
    }
    if (option->seen && option->arity != Arity::kList) {
      parsed.faults.push_back(dashed + " is given twice; it takes one value");
      continue;
    }
    if (!option->seen) parsed.given.push_back(option->name);
    option->seen = true;
    if (auto done = option->set(value); !done) parsed.faults.push_back(dashed + " " + done.error().message);
  }
  for (const Option& option : options_) {
    if (option.required && !option.seen) {
      parsed.faults.push_back("--" + option.name + " " + option.placeholder + " is missing: " + option.help);
    }
  }
  if (words.size() > positionals_max_) {
    parsed.faults.push_back("'" + words[positionals_max_] + "' is one word too many");
  } else if (words.size() < positionals_min_) {
    parsed.faults.push_back(positional_name_ + " is missing: " + positional_help_);
  } else if (positionals_ != nullptr) {
    *positionals_ = std::move(words);
  }
  return parsed;
}

bool print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
  // Whoever closed a pipe has seen enough.
  if (errno != EPIPE) std::fprintf(stderr, "warmpath: writing the output: %s\n", std::strerror(errno));
  return false;
}

std::optional<int> Flags::read(std::span<const std::string> args) {
  const Parsed parsed = parse(args);
  if (parsed.help || parsed.list_options) {
    return print(parsed.help ? help_text() : option_names()) ? 0 : 1;
  }
  if (parsed.faults.empty()) return std::nullopt;
  for (const std::string& fault : parsed.faults)
    std::fprintf(stderr, "warmpath %s: %s\n", command_.c_str(), fault.c_str());
  std::fprintf(stderr, "warmpath %s: `warmpath %s --help` lists the options\n", command_.c_str(), command_.c_str());
  return 2;
}

std::string Flags::help_text() const {
  std::string out = "warmpath " + command_ + ": " + summary_ + "\n\nUsage: warmpath " + command_;
  for (const Option& option : options_) {
    if (option.required) out += " --" + option.name + " " + option.placeholder;
  }
  if (!options_.empty()) out += " [OPTIONS]";
  if (positionals_ != nullptr) {
    const bool many = positionals_max_ > 1;
    out += positionals_min_ == 0 ? " [" + positional_name_ + (many ? "…]" : "]")
                                 : " " + positional_name_ + (many ? "…" : "");
  }
  out += "\n";
  if (positionals_ != nullptr) out += "\n  " + positional_name_ + ": " + positional_help_ + "\n";

  out += "\nOptions:\n";
  constexpr std::size_t kColumn = 28;
  const auto line = [&](const std::string& left, const std::string& help) {
    out += "  " + left;
    if (left.size() + 4 > kColumn) {
      out += "\n" + std::string(kColumn, ' ');
    } else {
      out += std::string(kColumn - 2 - left.size(), ' ');
    }
    append_wrapped(out, help, kColumn, kColumn);
  };
  for (const Option& option : options_) {
    std::string help = option.help;
    if (option.arity == Arity::kList) help += " (may be repeated)";
    if (option.required) help += " (required)";
    if (!option.default_text.empty()) help += " (default: " + option.default_text + ")";
    line("--" + option.name + (option.placeholder.empty() ? "" : " " + option.placeholder), help);
  }
  line("--help", "this text");

  if (!examples_.empty()) out += "\nExamples:\n";
  for (const auto& [command, what] : examples_) out += "  " + command + "\n      " + what + "\n";
  for (const std::string& note : notes_) {
    out += '\n';
    append_wrapped(out, note, 0, 0);
  }
  return out;
}

std::string Flags::option_names() const {
  std::string out;
  for (const Option& option : options_) out += "--" + option.name + "\n";
  return out + "--help\n";
}

}  // namespace warmpath::config
