// Token ids as engines tell them.
#include <simdjson.h>

#include "api/api.h"

namespace warmpath::api {
namespace {

namespace dom = simdjson::dom;

Error not_ids(std::string_view what) { return {ErrorKind::kUpstream, "the engine's answer " + std::string(what)}; }

}  // namespace

Result<std::vector<TokenId>> parse_token_ids(std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return not_ids("is not JSON");
  dom::array list;
  if (root.get(list) == simdjson::SUCCESS && list.at(0).get(root) != simdjson::SUCCESS) {
    return not_ids("is an empty list");
  }
  if (root["token_ids"].get(list) != simdjson::SUCCESS && root["tokens"].get(list) != simdjson::SUCCESS) {
    return not_ids("holds no token ids");
  }
  std::vector<TokenId> ids;
  for (const dom::element one : list) {
    std::uint64_t id = 0;
    if (one.get(id) != simdjson::SUCCESS || id > 0xFFFF'FFFFu)
      return not_ids("has token ids that are no whole numbers");
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

}  // namespace warmpath::api
