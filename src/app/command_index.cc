// warmpath index stat|dump|who: the map of a running gateway, asked at its admin listener.
#include <simdjson.h>

#include <cstdio>

#include "admin/admin.h"
#include "app/ask.h"
#include "app/commands.h"
#include "app/standard_input.h"
#include "config/flags.h"

namespace warmpath::app {
namespace {

namespace dom = simdjson::dom;

struct Options {
  std::string admin = "http://127.0.0.1:8081";
  std::string pool;
  std::string engine;
  std::string model;
  bool chat = false;
  config::Format format = config::Format::kTable;
};

void declare(config::Flags& flags, Options& options) {
  flags.text("admin", "URL", "the gateway's admin listener (--admin-listen)", &options.admin);
  flags.format(&options.format);
}

Error not_expected(const Options& options) {
  return {ErrorKind::kUpstream, options.admin + ": the answer is not what a gateway of this version says"};
}

// Empty or 0 where the answer has no such member, or one of another kind.
std::string_view text_of(const dom::element& object, const char* key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? text : std::string_view();
}

std::uint64_t number_of(const dom::element& object, const char* key) {
  std::uint64_t number = 0;
  return object[key].get(number) == simdjson::SUCCESS ? number : 0;
}

// One row a line, columns as wide as their widest; the first is on the left, the others on the right.
std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      if (i > 0) out += "  ";
      out += i == 0 ? row[i] + pad : pad + row[i];
    }
    out += '\n';
  }
  return out;
}

Result<std::string> stat_table(const Options& options, const std::string& body) {
  dom::parser parser;
  dom::array pools;
  if (parser.parse(body)["pools"].get(pools) != simdjson::SUCCESS) return not_expected(options);
  std::string out;
  for (const dom::element pool : pools) {
    if (!out.empty()) out += '\n';
    out += "pool " + std::string(text_of(pool, "pool"));
    if (const auto why = text_of(pool, "why_none"); !why.empty()) {
      out += ": no index, " + std::string(why) + "\n";
      continue;
    }
    out += ": " + std::to_string(number_of(pool, "keys")) + " keys of " +
           std::to_string(number_of(pool, "block_tokens")) + " tokens, " + std::to_string(number_of(pool, "bytes")) +
           " of " + std::to_string(number_of(pool, "bytes_max")) + " bytes";
    const std::uint64_t restored = number_of(pool, "blocks_restored");
    out += (restored > 0 ? ", " + std::to_string(restored) + " blocks taken over at start" : "") + "\n";
    std::vector<std::vector<std::string>> rows{
        {"engine", "publisher", "blocks", "parked", "lag", "batches", "gaps", "replays", "failed", "restarts"}};
    dom::array engines;
    if (pool["engines"].get(engines) != simdjson::SUCCESS) return not_expected(options);
    for (const dom::element engine : engines) {
      std::vector<std::string>& row = rows.emplace_back();
      row.emplace_back(text_of(engine, "engine"));
      row.emplace_back(text_of(engine, "publisher"));
      for (const char* key : {"blocks_held", "stores_parked", "lag_batches", "batches", "gaps", "replays",
                              "replays_failed", "restarts"}) {
        row.push_back(std::to_string(number_of(engine, key)));
      }
    }
    out += table(rows);
  }
  return out;
}

Result<std::string> who_table(const Options& options, const std::string& body) {
  dom::parser parser;
  dom::element root;
  dom::array engines;
  if (parser.parse(body).get(root) != simdjson::SUCCESS || root["engines"].get(engines) != simdjson::SUCCESS) {
    return not_expected(options);
  }
  std::string out = "pool " + std::string(text_of(root, "pool")) + ": " +
                    std::to_string(number_of(root, "prompt_tokens")) + " tokens, " +
                    std::to_string(number_of(root, "chain_blocks")) + " whole blocks of " +
                    std::to_string(number_of(root, "block_tokens"));
  const auto chain = text_of(root, "chain");
  if (chain != "exact") out += " (no exact chain: " + std::string(chain) + ")";
  out += '\n';
  std::vector<std::vector<std::string>> rows{{"engine", "publisher", "gpu", "cpu", "storage"}};
  for (const dom::element engine : engines) {
    std::vector<std::string>& row = rows.emplace_back();
    row.emplace_back(text_of(engine, "engine"));
    row.emplace_back(text_of(engine, "publisher"));
    dom::element tokens;
    const bool told = engine["tokens"].get(tokens) == simdjson::SUCCESS;
    for (const char* tier : {"gpu", "cpu", "storage"}) {
      row.push_back(std::to_string(told ? number_of(tokens, tier) : 0));
    }
  }
  return out + (rows.size() == 1 ? "no engine holds a block of it\n" : table(rows));
}

int shown(const Options& options, const Result<std::string>& body,
          Result<std::string> (*as_table)(const Options&, const std::string&)) {
  if (!body.ok()) return fail(body.error());
  if (options.format == config::Format::kJson) return print(*body + "\n") ? 0 : 1;
  const auto text = as_table(options, *body);
  if (!text.ok()) return fail(text.error());
  return print(*text) ? 0 : 1;
}

// One page as lines, or as members of one array; `next` becomes the place of the next page, empty behind the last.
Result<std::string> dump_page(const Options& options, const std::string& body, bool first, std::string& next) {
  dom::parser parser;
  dom::element root;
  dom::array blocks;
  if (parser.parse(body).get(root) != simdjson::SUCCESS || root["blocks"].get(blocks) != simdjson::SUCCESS) {
    return not_expected(options);
  }
  const bool json = options.format == config::Format::kJson;
  std::string out;
  if (first && json) {
    JsonWriter head;
    head.object().member("pool", text_of(root, "pool")).member("engine", text_of(root, "engine"));
    head.member("publisher", text_of(root, "publisher")).member("blocks_held", number_of(root, "blocks_held")).end();
    out = head.take();
    out.back() = ',';
    out += "\"blocks\":[";
  } else if (first) {
    out = std::string(text_of(root, "engine")) + " (" + std::string(text_of(root, "publisher")) +
          "): " + std::to_string(number_of(root, "blocks_held")) + " blocks\n";
  }
  bool begun = first;
  for (const dom::element block : blocks) {
    if (json) {
      out += (begun ? "" : ",") + simdjson::minify(block);
      begun = false;
      continue;
    }
    out += std::to_string(number_of(block, "group")) + "  " + std::string(text_of(block, "hash")) + " ";
    dom::array tiers;
    if (block["tiers"].get(tiers) == simdjson::SUCCESS) {
      for (const dom::element tier : tiers) out += " " + std::string(tier.get_c_str().value_unsafe());
    }
    out += '\n';
  }
  next = text_of(root, "next");
  if (next.empty() && json) out += "]}\n";
  return out;
}

}  // namespace

int run_index_stat(std::span<const std::string> args) {
  Options options;
  config::Flags flags("index stat", "what a running gateway's index holds, and how each engine's event stream stands");
  declare(flags, options);
  flags.example("warmpath index stat", "of the gateway on this machine");
  flags.example("warmpath index stat --admin http://10.0.0.1:8081 --format json", "for scripts");
  flags.note(
      "publisher: exact, partial (sound, some blocks missing), suspect (a hole), lost. lag: batches known to be "
      "out and not applied.");
  if (const auto code = flags.read(args)) return *code;
  return shown(options, ask(options.admin, "/index", ""), stat_table);
}

int run_index_dump(std::span<const std::string> args) {
  Options options;
  config::Flags flags("index dump", "every block that a running gateway's index holds of one engine");
  declare(flags, options);
  flags.text("engine", "NAME", "as `warmpath index stat` names it", &options.engine).required("engine");
  flags.text("pool", "NAME", "of several pools, which", &options.pool);
  flags.example("warmpath index dump --engine http://10.0.0.7:8000", "group, hash, tiers");
  flags.note("Hashes are the engine's own, their last 8 bytes (vLLM) or first 8 (SGLang), as its events carry them.");
  if (const auto code = flags.read(args)) return *code;
  std::string next;
  bool first = true;
  do {
    std::string target =
        "/index/dump?limit=" + std::to_string(admin::kDumpLimitMax) + "&engine=" + percent_encoded(options.engine);
    if (!options.pool.empty()) target += "&pool=" + percent_encoded(options.pool);
    if (!next.empty()) target += "&after=" + percent_encoded(next);
    const auto body = ask(options.admin, target, "");
    if (!body.ok()) return fail(body.error());
    const auto page = dump_page(options, *body, first, next);
    if (!page.ok()) return fail(page.error());
    if (!print(*page)) return 1;
    first = false;
  } while (!next.empty());
  return 0;
}

int run_index_who(std::span<const std::string> args) {
  Options options;
  config::Flags flags("index who", "which engines hold the prompt on standard input, and how many of its tokens");
  declare(flags, options);
  flags.toggle("chat", "the input is a chat-completions body, not a text", &options.chat);
  flags.text("model", "NAME", "the model or adapter that a text is for; default: the pool's", &options.model);
  flags.text("pool", "NAME", "of several pools, which; default: the one that serves the model", &options.pool);
  flags.example("printf 'Once upon a time' | warmpath index who", "a text, as /v1/completions takes it");
  flags.example("warmpath index who --chat <body.json --format json", "a chat");
  flags.note(
      "The gateway renders and tokenizes it with the pool's own tokenizer, as it does with requests. Tokens count "
      "whole blocks; a tier's count includes faster ones.");
  if (const auto code = flags.read(args)) return *code;
  auto input = read_standard_input(admin::kWhoBytesMax);
  if (!input.ok()) return fail(input.error());
  std::string body = std::move(input).value();
  if (!options.chat) {
    JsonWriter json;
    json.object().member("prompt", body);
    if (!options.model.empty()) json.member("model", options.model);
    json.end();
    body = json.take();
  } else if (body.empty()) {
    return fail({ErrorKind::kInvalid, "standard input is empty; a chat-completions body was expected"});
  }
  std::string target = options.chat ? "/index/who?as=chat" : "/index/who?as=completions";
  if (!options.pool.empty()) target += "&pool=" + percent_encoded(options.pool);
  return shown(options, ask(options.admin, target, body), who_table);
}

}  // namespace warmpath::app
