// warmpath events decode: what a KV-event payload says.
#include <algorithm>
#include <cstdio>

#include "app/commands.h"
#include "app/standard_input.h"
#include "config/flags.h"
#include "events/events.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kStdinBytesMax = std::size_t{256} << 20;

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

Error broken(std::size_t payload, std::size_t payloads, const std::string& message) {
  // An engine's bytes are at fault, not the command line: exit code 1.
  return {ErrorKind::kUpstream, (payloads > 1 ? "payload " + std::to_string(payload + 1) + ": " : "") + message};
}

Result<std::vector<std::uint8_t>> bytes_of(std::string_view hex) {
  const auto bad = std::find_if_not(hex.begin(), hex.end(), is_hex);
  if (bad != hex.end()) {
    return Error{ErrorKind::kInvalid, "hex has a character that is no hexadecimal digit (character " +
                                          std::to_string(bad - hex.begin()) + ", byte " +
                                          std::to_string((bad - hex.begin()) / 2) + ")"};
  }
  auto bytes = from_hex(hex);
  if (!bytes) {
    return Error{ErrorKind::kInvalid, "hex has an odd number of digits (" + std::to_string(hex.size()) +
                                          "): it ends in the middle of byte " + std::to_string(hex.size() / 2)};
  }
  return *std::move(bytes);
}

std::string hash_text(const blocks::WireHash& hash) {
  if (hash.bytes.empty()) return std::to_string(hash.value.value());
  return to_hex({reinterpret_cast<const std::uint8_t*>(hash.bytes.data()), hash.bytes.size()});
}

std::string hashes_text(const std::vector<blocks::WireHash>& hashes) {
  constexpr std::size_t kShown = 3;
  std::string out = std::to_string(hashes.size()) + (hashes.size() == 1 ? " block:" : " blocks:");
  for (std::size_t i = 0; i < std::min(hashes.size(), kShown); ++i) out += " " + hash_text(hashes[i]);
  return out + (hashes.size() > kShown ? " …" : "");
}

// Text from the wire for a terminal: control characters out.
std::string shown(std::string_view text) {
  std::string out(text);
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return out;
}

std::string line_of(const blocks::BlockStored& event) {
  std::string line = "stored   " + hashes_text(event.block_hashes) + ", parent " +
                     (event.parent_block_hash ? hash_text(*event.parent_block_hash) : "none") + ", " +
                     std::to_string(event.token_ids.size()) + " tokens in blocks of " +
                     std::to_string(event.block_size) + ", " + shown(event.medium.value_or("GPU (not said)"));
  if (event.lora_name) line += ", adapter " + shown(*event.lora_name);
  if (event.group_idx) line += ", group " + std::to_string(*event.group_idx);
  if (event.kv_cache_spec_kind) line += ", " + shown(*event.kv_cache_spec_kind);
  return line;
}

std::string line_of(const blocks::BlockRemoved& event) {
  std::string line =
      "removed  " + hashes_text(event.block_hashes) + ", " + shown(event.medium.value_or("GPU (not said)"));
  if (event.group_idx) line += ", group " + std::to_string(*event.group_idx);
  return line;
}

std::string line_of(const blocks::AllBlocksCleared&) { return "cleared  all blocks"; }

std::string table_of(const events::Batch& batch) {
  char ts[64];
  std::snprintf(ts, sizeof ts, "%.6f", batch.ts);
  std::string out = std::string("batch at ") + ts + ", rank " +
                    (batch.rank ? std::to_string(*batch.rank) : "not said") + ", " +
                    std::to_string(batch.events.size()) + (batch.events.size() == 1 ? " event\n" : " events\n");
  for (const blocks::KvEvent& event : batch.events) {
    out += "  " + std::visit([](const auto& kind) { return line_of(kind); }, event) + "\n";
  }
  if (batch.events_unknown > 0) out += "  skipped  " + std::to_string(batch.events_unknown) + " of an unknown type\n";
  if (batch.events_malformed > 0) {
    out += "  skipped  " + std::to_string(batch.events_malformed) + " with a field missing or of the wrong kind\n";
  }
  return out;
}

// The words of all texts; "-" stands for what standard input holds.
Result<std::vector<std::string>> payloads_of(const std::vector<std::string>& texts) {
  std::vector<std::string> payloads;
  for (const std::string& given : texts) {
    std::string text = given;
    if (given == "-") {
      auto input = read_standard_input(kStdinBytesMax);
      if (!input) return std::move(input).error();
      text = *std::move(input);
    }
    std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
    for (const std::string_view word : split(text, ' ')) {
      if (!word.empty()) payloads.emplace_back(word);
    }
  }
  return payloads;
}

}  // namespace

int run_events_decode(std::span<const std::string> args) {
  std::vector<std::string> texts;
  config::Format format = config::Format::kJson;  // what is asked here is for programs first
  config::Flags flags("events decode", "shows what a KV-event payload of vLLM or SGLang says");
  flags.list("hex", "BYTES",
             "one msgpack payload in hexadecimal, or several with white space between; - reads standard input", &texts);
  flags.required("hex").format(&format);
  flags.example(
      "warmpath events decode --hex "
      "93cb41d954fc404000009181a474797065b0416c6c426c6f636b73436c656172656400",
      "one batch with a clear");
  flags.note(
      "JSON is one object a line and payload. Hashes that came as bytes are hex strings, those that came as "
      "integers unsigned integers.");
  if (const auto code = flags.read(args)) return *code;

  const auto payloads = payloads_of(texts);
  if (!payloads) return fail(payloads.error());
  if (payloads->empty()) return fail({ErrorKind::kInvalid, "--hex holds no payload"});
  for (std::size_t i = 0; i < payloads->size(); ++i) {
    const auto bytes = bytes_of((*payloads)[i]);
    if (!bytes) return fail(broken(i, payloads->size(), bytes.error().message));
    const auto batch = events::decode_batch(*bytes);
    if (!batch) return fail(broken(i, payloads->size(), batch.error().message));
    std::string out;
    if (format == config::Format::kJson) {
      JsonWriter json;
      events::write_json(json, *batch);
      out = json.take() + "\n";
    } else {
      out = table_of(*batch);
    }
    if (!print(out)) return 1;
  }
  return 0;
}

}  // namespace warmpath::app
