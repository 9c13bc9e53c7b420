// Any bytes as a run of texts through one Reuse: ids and errors are those of encoding each whole text by the reference.
#include <cstdio>
#include <string>
#include <vector>

#include "prompt/reuse.h"

namespace {

using namespace warmpath;

// A small tokenizer of the kind that allows parts: bytes, merges over letters, an added token.
constexpr const char* kSplit =
    R"([^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

// Byte-level alphabet: printable bytes stand for themselves, the others for characters from U+0100 on.
std::string vocabulary() {
  std::string out;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    const int code = plain ? byte : next++;
    out += byte == 0 ? "\"" : ",\"";
    if (code == '"' || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code < 128) {
      out += static_cast<char>(code);
    } else {
      out += static_cast<char>(0xC0 | (code >> 6));
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
    out += "\":" + std::to_string(byte);
  }
  return out;
}

std::shared_ptr<const tokens::Tokenizer> make() {
  const std::string json =
      R"({"version":"1.0","added_tokens":[{"id":262,"content":"<|x|>","single_word":false,"lstrip":false,"rstrip":false,
  "normalized":false,"special":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[
  {"type":"Split","pattern":{"Regex":")" +
      std::string(kSplit) +
      R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,
  "use_regex":false}]},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,
  "trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,
  "unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,
  "ignore_merges":false,"vocab":{)" +
      vocabulary() +
      ",\"ab\":256,\"aa\":257,\"aaaa\":258,\"\u0120a\":259,\"\u0120ab\":260,\"\u010a\u010a\":261},\"merges\":[\"a "
      "b\"," +
      "\"a a\",\"aa aa\",\"\u0120 a\",\"\u0120a b\",\"\u010a \u010a\"]}}";
  tokens::ModelFiles files;
  files.tokenizer_json = json;
  auto made = tokens::Tokenizer::create(files);
  if (!made.ok()) std::fprintf(stderr, "%s\n", made.error().message.c_str());
  WP_CHECK(made.ok());
  WP_CHECK((*made)->encoder_facts().parts);
  return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto tokenizer = make();
  static const blocks::KeySpace space(7, "fuzz", 2);
  static prompt::Reuse shared(*tokenizer, space, 1u << 20, {8, 32, 256});
  prompt::Reuse own(*tokenizer, space, 64u << 10, {8, 32, 256});
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // 0xFF, which no UTF-8 holds, ends a text; each text is its predecessor's beginning, as long as its first byte says,
  // and the rest.
  std::string text;
  for (std::size_t at = 0; at < input.size();) {
    const std::size_t end = std::min(input.find('\xff', at), input.size());
    const std::string_view rest = input.substr(at, end - at);
    at = end + 1;
    if (rest.empty()) continue;
    text.resize(std::min<std::size_t>(text.size(), static_cast<unsigned char>(rest[0])));
    text += rest.substr(1);
    const auto ids = tokenizer->encode_by_reference(text, tokens::SpecialTokens::kNone);
    for (prompt::Reuse* reuse : {&own, &shared}) {
      const auto found = reuse->encode(text, tokens::SpecialTokens::kNone, {});
      WP_CHECK(found.ok() == ids.ok());
      if (!found.ok()) continue;
      WP_CHECK(found->prompt_tokens == ids->size());
      WP_CHECK(found->chain == space.chain(*ids, {}));
    }
  }
  WP_CHECK(own.counters().bytes_held <= 64u << 10);
  return 0;
}
