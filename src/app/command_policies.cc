// warmpath policies: what policies there are.
#include <cstdio>

#include "app/commands.h"
#include "config/flags.h"
#include "schedule/schedule.h"

namespace warmpath::app {
namespace {

std::string as_json() {
  JsonWriter json;
  json.object().key("policies").array();
  for (const schedule::Policy* policy : schedule::policies()) {
    json.object()
        .member("name", policy->name())
        .member("summary", policy->summary())
        .member("formula", policy->formula())
        .member("needs", schedule::needs_name(policy->needs()));
    json.member("guess_block_bytes", policy->guess_block_bytes());
    json.member("guess_blocks_max", policy->guess_blocks_max());
    json.end();
  }
  return json.end().end().take() + "\n";
}

std::string as_table() {
  std::string out;
  for (const schedule::Policy* policy : schedule::policies()) {
    const std::string name(policy->name());
    out += name + std::string(name.size() < 18 ? 18 - name.size() : 1, ' ') + std::string(policy->summary()) + "\n";
    out += std::string(18, ' ') + "total: " + std::string(policy->formula()) + "\n";
    out += std::string(18, ' ') + "needs of the prompt: " + std::string(schedule::needs_name(policy->needs())) + "\n";
  }
  return out;
}

}  // namespace

int run_policies(std::span<const std::string> args) {
  config::Format format = config::Format::kTable;
  config::Flags flags("policies", "the policies that choose an engine, with their formulas");
  flags.format(&format);
  flags.example("warmpath policies", "name, formula and needs of each");
  flags.example("warmpath policies --format json", "the same for programs");
  flags.note(
      "Needs: nothing; guess, a chain of hashes over the text; exact, the engine's own token ids and its KV events.");
  if (const auto code = flags.read(args)) return *code;
  return print(format == config::Format::kJson ? as_json() : as_table()) ? 0 : 1;
}

}  // namespace warmpath::app
