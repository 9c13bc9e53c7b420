// Checks over several values, and the generated page.
#include <algorithm>
#include <map>
#include <set>

#include "config/rows.h"

namespace warmpath::config {
namespace {

struct Check {
  const Checks& checks;
  const Places& places;
  std::vector<Fault>& faults;

  void fault(const std::string& key, std::string message) {
    Place place = places.of(key);
    faults.push_back({std::move(place.file), place.line, key, std::move(message)});
  }

  // A value that was refused is not missing besides.
  bool already(const std::string& key) const {
    return std::any_of(faults.begin(), faults.end(), [&](const Fault& f) { return f.key.starts_with(key); });
  }

  bool refused(const std::string& key) const {
    return std::any_of(faults.begin(), faults.end(), [&](const Fault& f) { return f.key == key; });
  }

  void file(std::string_view option, const std::string& path, const std::string& key) {
    if (path.empty() || !checks.path_fault) return;
    if (std::string why = checks.path_fault(option, path); !why.empty()) fault(key, std::move(why));
  }

  void engine(const EngineConfig& engine, const std::string& path, std::map<std::string, std::string>& urls) {
    if (engine.url.empty()) {
      if (!already(path)) fault(path, "url is missing: http://HOST:PORT or https://HOST:PORT");
    } else if (const auto [at, fresh] = urls.emplace(engine.url, path); !fresh) {
      fault(path, "the engine " + engine.url + " is already " + at->second);
    }
    if (!engine.ca.empty() && engine.url.starts_with("http://")) {
      fault(path, "ca is for https engines, and the URL is " + engine.url);
    }
    file("ca", engine.ca, path + ".ca");
    if (engine.kv && engine.kv->events.empty() && !already(path + ".kv"))
      fault(path, "replay needs kv: the address of the events themselves");
    if (engine.kv && engine.dp > 1) {
      for (const std::string& address : {engine.kv->events, engine.kv->replay}) {
        const auto port = parse_u64(std::string_view(address).substr(address.rfind(':') + 1));
        if (port && *port + engine.dp - 1 > 65'535) {
          fault(path, "rank " + std::to_string(engine.dp - 1) + " would have port " +
                          std::to_string(*port + engine.dp - 1) + " of " + address + "; the highest port is 65535");
        }
      }
    }
  }

  void pool(const PoolConfig& pool, const std::string& path, std::map<std::string, std::string>& names) {
    if (pool.engines.empty() && !already(path + ".engines") && !refused(path))
      fault(path, "has no engine: name at least one under engines");
    std::vector<std::string> all = pool.aliases;
    if (!pool.model.empty()) all.push_back(pool.model);
    if (pool.model.empty() && !pool.aliases.empty()) fault(path, "aliases need the model that they are names for");
    for (const std::string& name : all) {
      if (const auto [at, fresh] = names.emplace(name, path); !fresh) {
        fault(path, "the name '" + name + "' already belongs to " + at->second);
      }
    }
    file("tokenizer", pool.tokenizer, path + ".tokenizer");
    file("secret_file", pool.secret_file, path + ".secret_file");
    if (pool.block_tokens % 16 != 0) fault(path + ".block_tokens", "takes 0 or a multiple of 16");
    std::map<std::string, std::string> urls;
    for (std::size_t i = 0; i < pool.engines.size(); ++i) {
      engine(pool.engines[i], path + ".engines[" + std::to_string(i) + "]", urls);
    }
  }
};

template <class Owner>
void append_table(std::string& out, std::span<const Row<Owner>> rows) {
  out += "| key | flag | takes | default | meaning |\n|---|---|---|---|---|\n";
  Owner defaults{};
  for (const auto& row : rows) {
    const Rule rule = rule_of(row);
    const std::string value = field_text(rule, row.field(defaults));
    std::string takes = rule.kind == Kind::kText   ? "text"
                        : rule.kind == Kind::kList ? "list of texts"
                                                   : allowed_text(rule);
    if (rule.kind == Kind::kPolicy) takes = "a policy's name";
    out += "| `" + std::string(row.key) + "` | " + (row.flag.empty() ? "" : "`--" + std::string(row.flag) + "`") +
           " | " + takes + " | " + (value.empty() ? "" : "`" + value + "`") + " | " + std::string(row.help) + " |\n";
  }
}

}  // namespace

void check_gateway(const GatewayConfig& config, const Checks& checks, const Places& places,
                   std::vector<Fault>& faults) {
  Check check{checks, places, faults};
  if (config.listen == config.admin_listen && !config.listen.ends_with(":0")) {
    check.fault("admin_listen",
                "is the same address as listen, " + config.listen + "; the two listeners need one each");
  }
  if (config.index.copy_from.starts_with("https://")) {
    check.fault("index.copy_from", "takes http://HOST:PORT: the admin listener speaks plain http");
  }
  if (config.pools.empty() && !check.already("pools"))
    check.fault("pools", "there is no engine: give --engine URL, or pools in a file");
  std::map<std::string, std::string> names;
  for (std::size_t i = 0; i < config.pools.size(); ++i) {
    check.pool(config.pools[i], "pools[" + std::to_string(i) + "]", names);
  }
}

std::string gateway_docs_markdown() {
  std::string out =
      "# Configuration of `warmpath serve`\n\n"
      "Written from the option table in `src/config/rows.cc` by `warmpath config docs`; a test keeps it fresh.\n"
      "`--config FILE` reads YAML with the keys below; a flag wins over the file. `warmpath config check FILE` names "
      "every\n"
      "fault at once and exits with 2. All options are read at start: a change takes a restart. Limits of a file: 1 "
      "MiB,\n"
      "16 levels, 20,000 values, no aliases, one document.\n\n"
      "```yaml\nlisten: 127.0.0.1:8080\nlimits:\n  body_bytes_max: 32MiB\npools:\n  - model: qwen3-32b\n"
      "    tokenizer: /models/qwen3-32b\n    engines:\n      - http://10.0.0.7:8000\n"
      "      - url: http://10.0.0.8:8000\n        kv: tcp://10.0.0.8:5557\n        replay: tcp://10.0.0.8:5558\n```\n\n"
      "## The gateway\n\n";
  append_table(out, gateway_rows());
  out +=
      "\n## A pool: an entry of `pools`\n\nThe flags describe the one pool of a gateway without a file, or change the "
      "file's only pool.\n\n";
  append_table(out, pool_rows());
  out +=
      "\n## An engine: an entry of a pool's `engines`\n\n"
      "Either a map with these keys or the text that `--engine` takes:\n"
      "`URL[,kv=ADDRESS][,replay=ADDRESS][,dp=N][,ca=FILE][,adapters=A+B]`. `--engine` may be repeated.\n\n";
  append_table(out, engine_rows());
  return out;
}

}  // namespace warmpath::config
