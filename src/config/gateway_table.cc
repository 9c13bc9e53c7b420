#include "config/gateway_table.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "config/rows.h"
#include "config/yaml_tree.h"

namespace warmpath::config {
namespace {

constexpr std::size_t kPoolsMax = 256;
constexpr std::size_t kEnginesMax = 4'096;  // a pool
constexpr std::size_t kEngineFaultBytesMax = 2'048;

// Lines of the keys a file named; a key that is not there answers with its nearest parent's.
class FilePlaces final : public Places {
 public:
  explicit FilePlaces(std::string_view file) : file_(file) {}
  void note(const std::string& key, std::size_t line) { lines_.emplace(key, line); }
  Place of(std::string_view key) const override {
    for (;;) {
      if (const auto at = lines_.find(key); at != lines_.end()) return {file_, at->second};
      const auto cut = key.find_last_of(".[");
      if (cut == std::string_view::npos) return {file_, 0};
      key = key.substr(0, cut);
    }
  }

 private:
  std::string file_;
  std::map<std::string, std::size_t, std::less<>> lines_;
};

struct Reader {
  std::string_view file;
  const Checks& checks;
  FilePlaces& places;
  std::vector<Fault>& faults;

  void fault(std::size_t line, std::string key, std::string message) {
    faults.push_back({std::string(file), line, std::move(key), std::move(message)});
  }

  template <class Owner>
  void set(const Row<Owner>& row, Owner& owner, const YamlItem& item, const std::string& path) {
    const Rule rule = rule_of(row);
    const auto one = [&](const YamlItem& value) {
      if (value.kind != YamlItem::Kind::kText) {
        return fault(value.line, path, "takes " + allowed_text(rule) + ", not " + std::string(kind_name(value.kind)));
      }
      if (auto done = set_field(rule, row.field(owner), value.text, checks); !done) {
        fault(value.line, path, done.error().message);
      }
    };
    if (row.kind == Kind::kList && item.kind == YamlItem::Kind::kList) {
      for (const YamlItem& value : item.items) one(value);
    } else {
      one(item);
    }
  }

  // Sets all rows below `map`, whose keys start with `prefix` in the table; `nested` takes keys that are no rows.
  template <class Owner, class Nested>
  void fill(const YamlItem& map, std::span<const Row<Owner>> rows, Owner& owner, const std::string& prefix,
            const std::string& path, std::string_view nested_key, const Nested& nested) {
    for (const YamlItem& item : map.items) {
      const std::string key = prefix + item.key;
      const std::string shown = path + item.key;
      places.note(shown, item.line);
      if (!nested_key.empty() && key == nested_key) {
        nested(item, shown);
        continue;
      }
      const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.key == key; });
      if (row != rows.end()) {
        set(*row, owner, item, shown);
        continue;
      }
      const bool group =
          std::any_of(rows.begin(), rows.end(), [&](const auto& r) { return r.key.starts_with(key + "."); });
      if (group && item.kind == YamlItem::Kind::kMap) {
        fill(item, rows, owner, key + ".", shown + ".", "", nested);
      } else if (group) {
        fault(item.line, shown, "takes a map of options, not " + std::string(kind_name(item.kind)));
      } else {
        unknown(item, rows, prefix, shown, nested_key);
      }
    }
  }

  template <class Owner>
  void unknown(const YamlItem& item, std::span<const Row<Owner>> rows, const std::string& prefix,
               const std::string& shown, std::string_view nested_key) {
    std::vector<std::string_view> names;
    if (!nested_key.empty()) names.push_back(nested_key);
    for (const auto& row : rows) {
      if (!row.key.starts_with(prefix)) continue;
      const std::string_view name = row.key.substr(prefix.size());
      const std::string_view first = name.substr(0, name.find('.'));
      if (std::find(names.begin(), names.end(), first) == names.end()) names.push_back(first);
    }
    std::string message = "there is no such option";
    const std::string_view typed = std::string_view(item.key).substr(0, 80);
    if (const auto near = nearest_name(typed, names)) {
      message += "; did you mean '" + std::string(*near) + "'?";
    } else {
      message += "; here are allowed: ";
      for (std::size_t i = 0; i < names.size(); ++i) message.append(i == 0 ? "" : ", ").append(names[i]);
    }
    fault(item.line, shown.substr(0, 160), std::move(message));
  }

  // Calls `each` for every entry of a list of bounded length.
  template <class Each>
  void list(const YamlItem& item, const std::string& path, std::size_t entries_max, const Each& each) {
    if (item.kind != YamlItem::Kind::kList) {
      return fault(item.line, path, "takes a list, not " + std::string(kind_name(item.kind)));
    }
    if (item.items.size() > entries_max) {
      return fault(item.line, path, "takes at most " + std::to_string(entries_max) + " entries");
    }
    for (std::size_t i = 0; i < item.items.size(); ++i) {
      const std::string shown = path + "[" + std::to_string(i) + "]";
      places.note(shown, item.items[i].line);
      each(item.items[i], shown);
    }
  }

  // An entry that is refused still takes its place, so that later ones keep their numbers.
  void engine(const YamlItem& item, const std::string& path, PoolConfig& pool) {
    EngineConfig& engine = pool.engines.emplace_back();
    if (item.kind == YamlItem::Kind::kText) {
      auto parsed = parse_engine(item.text);
      if (!parsed) return fault(item.line, path, parsed.error().message);
      engine = std::move(*parsed);
    } else if (item.kind == YamlItem::Kind::kMap) {
      fill(item, engine_rows(), engine, "", path + ".", "", [](const auto&, const auto&) {});
    } else {
      fault(item.line, path, "takes a URL or a map with url, not " + std::string(kind_name(item.kind)));
    }
  }

  void pool(const YamlItem& item, const std::string& path, GatewayConfig& config) {
    PoolConfig& pool = config.pools.emplace_back();
    if (item.kind != YamlItem::Kind::kMap) {
      return fault(item.line, path, "takes a map of options, not " + std::string(kind_name(item.kind)));
    }
    fill(item, pool_rows(), pool, "", path + ".", "engines", [&](const YamlItem& engines, const std::string& shown) {
      list(engines, shown, kEnginesMax,
           [&](const YamlItem& one, const std::string& where) { engine(one, where, pool); });
    });
  }

  void gateway(const YamlItem& root, GatewayConfig& config) {
    if (root.kind == YamlItem::Kind::kNull) return;  // an empty file: all defaults
    if (root.kind != YamlItem::Kind::kMap) {
      return fault(root.line, "",
                   "the file holds " + std::string(kind_name(root.kind)) + "; a map of options is needed");
    }
    fill(root, gateway_rows(), config, "", "", "pools", [&](const YamlItem& pools, const std::string& shown) {
      list(pools, shown, kPoolsMax, [&](const YamlItem& one, const std::string& where) { pool(one, where, config); });
    });
  }
};

void bound(std::vector<Fault>& faults) {
  if (faults.size() <= kFaultsMax) return;
  const std::size_t more = faults.size() - kFaultsMax;
  faults.resize(kFaultsMax);
  faults.push_back({faults.back().file, faults.back().line, "", std::to_string(more) + " more faults are not shown"});
}

// False when the text could not be read as a tree at all.
bool read_into(std::string_view text, std::string_view file, const Checks& checks, FilePlaces& places,
               GatewayConfig& out, std::vector<Fault>& faults) {
  const YamlItem root = read_yaml(text, file, faults);
  if (!faults.empty()) return false;
  Reader{file, checks, places, faults}.gateway(root, out);
  return true;
}

}  // namespace

std::vector<Fault> read_gateway_yaml(std::string_view text, std::string_view file, const Checks& checks,
                                     GatewayConfig& out) {
  std::vector<Fault> faults;
  FilePlaces places(file);
  if (read_into(text, file, checks, places, out, faults)) check_gateway(out, checks, places, faults);
  bound(faults);
  return faults;
}

Result<EngineConfig> parse_engine(std::string_view text) {
  EngineConfig engine;
  const auto parts = split(text, ',');
  std::vector<std::string_view> seen;
  std::string faults;  // of all parts
  const auto fault = [&faults](const std::string& message) {
    faults.append(faults.empty() ? "" : "; ").append(message);
  };
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto equals = parts[i].find('=');
    const std::string_view key = i == 0 ? "url" : parts[i].substr(0, equals);
    const std::string_view value =
        i == 0 ? parts[i] : (equals == std::string_view::npos ? "" : parts[i].substr(equals + 1));
    const auto rows = engine_rows();
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.key == key; });
    if (row == rows.end() || (i > 0 && key == "url")) {
      constexpr std::array<std::string_view, 5> kKeys = {"kv", "replay", "dp", "ca", "adapters"};
      std::string message = "'" + std::string(parts[i].substr(0, 80)) +
                            "' is no part of an engine: URL[,kv=…][,replay=…][,dp=N][,ca=FILE][,adapters=A+B]";
      if (const auto near = nearest_name(key.substr(0, 80), kKeys)) {
        message += ", did you mean '" + std::string(*near) + "='?";
      }
      fault(message);
    } else if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      fault(std::string(key) + "= is given twice for one engine");
    } else {
      seen.push_back(key);
      const auto values = row->kind == Kind::kList ? split(value, '+') : std::vector<std::string_view>{value};
      for (const std::string_view one : values) {
        if (faults.size() > kEngineFaultBytesMax) break;
        if (auto done = set_field(rule_of(*row), row->field(engine), one, {}); !done) {
          fault(std::string(key) + " " + done.error().message);
        }
      }
    }
    if (faults.size() > kEngineFaultBytesMax) break;
  }
  if (!faults.empty()) return Error{ErrorKind::kInvalid, std::move(faults)};
  return engine;
}

namespace {

// Rows with a flag, gateway's first: the index is Given::row.
struct FlagRow {
  std::string_view name;
  std::string_view placeholder;
  std::string_view help;
  Rule rule;
  std::string default_text;
};

template <class Owner>
void append_flag_rows(std::span<const Row<Owner>> rows, std::vector<FlagRow>& out) {
  Owner defaults;
  for (const auto& row : rows) {
    const Rule rule = rule_of(row);
    out.push_back({row.flag, row.placeholder, row.help, rule, field_text(rule, row.field(defaults))});
  }
}

std::vector<FlagRow> flag_rows() {
  std::vector<FlagRow> out;
  append_flag_rows(gateway_rows(), out);
  append_flag_rows(pool_rows(), out);
  return out;
}

constexpr std::size_t kEngineRow = ~std::size_t{0};

// Tries a value on a fresh configuration, so that a flag's fault shows at once.
Result<void> apply(std::size_t row, std::string_view value, const Checks& checks, GatewayConfig& config,
                   PoolConfig& pool) {
  if (row < gateway_rows().size()) {
    const auto& r = gateway_rows()[row];
    return set_field(rule_of(r), r.field(config), value, checks);
  }
  const auto& r = pool_rows()[row - gateway_rows().size()];
  return set_field(rule_of(r), r.field(pool), value, checks);
}

class FlagPlaces final : public Places {
 public:
  explicit FlagPlaces(const FilePlaces& file) : file_(file) {}
  Place of(std::string_view key) const override {
    const Place place = file_.of(key);
    return place.line == 0 && place.file.empty() ? Place{"command line", 0} : place;
  }

 private:
  const FilePlaces& file_;
};

}  // namespace

GatewayFlags::GatewayFlags(Checks checks) : checks_(std::move(checks)) {}

void GatewayFlags::add_to(Flags& flags) {
  flags.text("config", "FILE", "YAML file with the same options and more (docs/config.md); flags win", &config_file_);
  flags.custom_list("engine", "URL[,kv=tcp://…][,replay=tcp://…][,dp=N][,ca=FILE][,adapters=A+B]",
                    "an engine, and what it cannot be asked: kv=bind:tcp://… for one that dials out",
                    [this](std::string_view value) -> Result<void> {
                      auto parsed = parse_engine(value);
                      if (!parsed) return std::move(parsed).error();
                      given_.push_back({kEngineRow, std::string(value)});
                      return {};
                    });
  const auto rows = flag_rows();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const FlagRow& row = rows[i];
    if (row.name.empty()) continue;
    auto read = [this, i](std::string_view value) -> Result<void> {
      GatewayConfig config;
      PoolConfig pool;
      if (auto done = apply(i, value, checks_, config, pool); !done) return done;
      given_.push_back({i, std::string(value)});
      return {};
    };
    if (row.rule.kind == Kind::kList) {
      flags.custom_list(row.name, row.placeholder, row.help, std::move(read));
    } else if (row.rule.kind == Kind::kSwitch) {
      flags.custom(row.name, "true|false", row.help, std::move(read), row.default_text);
    } else {
      flags.custom(row.name, row.placeholder, row.help, std::move(read), row.default_text);
    }
  }
}

std::vector<Fault> GatewayFlags::finish(const ReadFile& read_file, GatewayConfig& out) {
  std::vector<Fault> faults;
  FilePlaces file_places(config_file_);
  if (!config_file_.empty()) {
    auto text = read_file(config_file_);
    if (!text) return {{"command line", 0, "--config", text.error().message}};
    if (!read_into(*text, config_file_, checks_, file_places, out, faults)) {
      bound(faults);
      return faults;
    }
  }
  const std::size_t gateway_count = gateway_rows().size();
  for (const Given& given : given_) {
    const bool of_pool = given.row == kEngineRow || given.row >= gateway_count;
    if (of_pool && out.pools.empty()) out.pools.emplace_back();
    if (of_pool && out.pools.size() > 1) {
      const std::string name =
          given.row == kEngineRow ? "engine" : std::string(pool_rows()[given.row - gateway_count].flag);
      faults.push_back(
          {"command line", 0, "--" + name,
           "describes one pool, and " + config_file_ + " has " + std::to_string(out.pools.size()) + "; set it there"});
      continue;
    }
    if (given.row == kEngineRow) {
      out.pools[0].engines.push_back(*parse_engine(given.value));
      continue;
    }
    PoolConfig unused;
    PoolConfig& pool = out.pools.empty() ? unused : out.pools[0];
    if (auto done = apply(given.row, given.value, checks_, out, pool); !done) {
      faults.push_back({"command line", 0, given.value, done.error().message});
    }
  }
  check_gateway(out, checks_, FlagPlaces(file_places), faults);
  bound(faults);
  return faults;
}

}  // namespace warmpath::config
