// warmpath blocks: the block hashes an engine computes for token ids.
#include <cstdio>
#include <limits>

#include "app/commands.h"
#include "app/standard_input.h"
#include "blocks/blocks.h"
#include "config/flags.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kStdinBytesMax = std::size_t{64} << 20;

// "1,2,3", white space and the brackets of a JSON array allowed.
Result<std::vector<TokenId>> parse_ids(std::string_view text) {
  std::vector<TokenId> ids;
  std::string_view inner = trim(text);
  if (inner.starts_with('[') && inner.ends_with(']')) inner = trim(inner.substr(1, inner.size() - 2));
  if (inner.empty()) return ids;
  for (const std::string_view part : split(inner, ',')) {
    const auto id = parse_u64(trim(part));
    if (!id || *id > std::numeric_limits<TokenId>::max()) {
      return Error{ErrorKind::kInvalid, "token id number " + std::to_string(ids.size()) + " (byte " +
                                            std::to_string(part.data() - text.data()) + " of the ids) is '" +
                                            std::string(trim(part).substr(0, 40)) +
                                            "': it must be a whole number from 0 to 4294967295"};
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

// ID@OFFSET or ID@OFFSET+LENGTH; the identifier itself may hold any of these signs.
Result<blocks::HashMmItem> parse_item(std::string_view text) {
  const Error fault{ErrorKind::kInvalid, "'" + std::string(text) + "' is not ID@OFFSET or ID@OFFSET+LENGTH, in tokens"};
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos || at == 0) return fault;
  const std::string_view place = text.substr(at + 1);
  const std::size_t plus = place.find('+');
  const auto offset = parse_u64(place.substr(0, plus));
  const auto length =
      plus == std::string_view::npos ? std::optional<std::uint64_t>(1) : parse_u64(place.substr(plus + 1));
  if (!offset || !length || *length == 0) return fault;
  return blocks::HashMmItem{std::string(text.substr(0, at)), *offset, *length};
}

std::string json_of(const std::vector<blocks::Digest>& chain) {
  JsonWriter json;
  json.object().key("blocks").array();
  for (const blocks::Digest& digest : chain) json.value(to_hex(digest.view()));
  return json.end().end().take() + "\n";
}

std::string table_of(const blocks::HashOptions& options, const std::vector<blocks::Digest>& chain, std::size_t ids) {
  std::string out = "block  tokens             hash in events        digest\n";
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const std::size_t begin = i * options.block_tokens;
    const std::string tokens = std::to_string(begin) + ".." + std::to_string(begin + options.block_tokens - 1);
    const std::uint64_t event = blocks::event_hash(options.scheme, chain[i]).value();
    const std::string hash = options.scheme == blocks::Scheme::kSglang
                                 ? std::to_string(static_cast<std::int64_t>(event))
                                 : std::to_string(event);
    char line[256];
    std::snprintf(line, sizeof line, "%5zu  %-17s  %-20s  %s\n", i, tokens.c_str(), hash.c_str(),
                  to_hex(chain[i].view()).c_str());
    out += line;
  }
  const std::size_t rest = ids - chain.size() * options.block_tokens;
  if (rest > 0) out += std::to_string(rest) + (rest == 1 ? " token" : " tokens") + " at the end: no full block\n";
  return out;
}

}  // namespace

int run_blocks(std::span<const std::string> args) {
  blocks::HashOptions options;
  std::string scheme(blocks::scheme_name(blocks::Scheme::kVllmSha256));
  std::string form = "tagged";
  std::string lora;
  std::string ids_text;
  config::Format format = config::Format::kJson;  // what is asked here is for programs first
  static constexpr std::string_view kForms[] = {"tagged", "bare"};

  config::Flags flags("blocks", "token ids -> the block hashes that an engine computes");
  flags.choice("scheme", "the engine's hash scheme", &scheme, blocks::scheme_names());
  flags.number("block-size", "N", "tokens a block", &options.block_tokens, 1, 1'000'000);
  flags.text("seed", "TEXT", "the engine's PYTHONHASHSEED; unset if not given", &options.seed);
  flags.text("lora", "NAME[,PATH]", "adapter", &lora);
  flags.text("salt", "TEXT", "cache salt", &options.salt);
  flags.custom_list("mm", "ID@OFFSET[+LENGTH]", "an image or other item at that token, 1 token long unless said",
                    [&options](std::string_view text) -> Result<void> {
                      auto item = parse_item(text);
                      if (!item) return item.error();
                      options.items.push_back(*std::move(item));
                      return {};
                    });
  flags.choice("extra-keys", "how vLLM writes adapter, item and salt: tagged since 0.32, bare before", &form, kForms);
  flags.text("ids", "1,2,…", "token ids; - reads them from standard input", &ids_text);
  flags.required("ids").format(&format);
  flags.example("warmpath blocks --scheme vllm-sha256-cbor --block-size 4 --seed 0 --ids 1,2,3,4,5,6,7,8",
                "two blocks");
  flags.note("sglang hashes take no seed, adapter or items.");
  if (const auto code = flags.read(args)) return *code;

  options.scheme = *blocks::parse_scheme(scheme);
  options.form = form == "bare" ? blocks::ExtraKeyForm::kBare : blocks::ExtraKeyForm::kTagged;
  const std::size_t comma = lora.find(',');
  options.lora_name = lora.substr(0, comma);
  if (comma != std::string::npos) options.lora_path = lora.substr(comma + 1);
  const bool more = options.seed || !options.lora_name.empty() || !options.items.empty();
  if (options.scheme == blocks::Scheme::kSglang && more) {
    return fail({ErrorKind::kInvalid, "--seed, --lora and --mm take no part in sglang hashes: leave them out"});
  }
  if (ids_text == "-") {
    auto input = read_standard_input(kStdinBytesMax);
    if (!input) return fail(input.error());
    ids_text = *std::move(input);
  }
  const auto ids = parse_ids(ids_text);
  if (!ids) {
    std::fprintf(stderr, "warmpath: %s\n", ids.error().message.c_str());
    return 1;
  }
  const auto hasher = blocks::EngineHasher::create(options);
  if (!hasher) return fail(hasher.error());
  const auto chain = hasher->chain(*ids);
  const std::string out = format == config::Format::kJson ? json_of(chain) : table_of(options, chain, ids->size());
  return print(out) ? 0 : 1;
}

}  // namespace warmpath::app
