#include "engine_server/output_writer.h"

#include <algorithm>
#include <cmath>

#include "tokens/tokens.h"

namespace warmpath::engine_server {
namespace {

// A decoder may drop a leading space at the start of a text (Llama-2's do): so a word is decoded after itself.
std::string text_in_a_row(const tokens::Tokenizer& tokenizer, TokenId id) {
  const TokenId twice[] = {id, id};
  const auto once_text = tokenizer.decode(std::span(twice, 1), tokens::SpecialText::kSkip);
  const auto twice_text = tokenizer.decode(twice, tokens::SpecialText::kSkip);
  if (!once_text || !twice_text || twice_text->size() < once_text->size()) return {};
  return twice_text->substr(once_text->size());
}

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  a ^= b + 0x9e3779b97f4a7c15ull + (a << 6) + (a >> 2);
  return a;
}

}  // namespace

Result<OutputWriter> OutputWriter::create(const tokens::Tokenizer& tokenizer, std::uint64_t seed, std::uint32_t words,
                                          std::uint32_t length_mean) {
  OutputWriter writer(seed, std::max<std::uint32_t>(length_mean, 1));
  tokens::StableWords found = tokens::find_stable_words(tokenizer, words);
  if (found.rest.empty()) {
    return Error{ErrorKind::kUnsupported,
                 "this tokenizer has no lower-case words whose text encodes back to the same ids: a simulated engine "
                 "cannot speak with it; use a tokenizer with English words"};
  }
  writer.first_ = std::move(found.first);
  writer.rest_ = std::move(found.rest);
  writer.end_ = tokenizer.end_ids();
  for (const auto* ids : {&writer.first_, &writer.rest_}) {
    for (const TokenId id : *ids) writer.texts_.emplace(id, text_in_a_row(tokenizer, id));
  }
  return writer;
}

RandomStream OutputWriter::stream(const Prompt& prompt) const {
  const std::string_view bytes(reinterpret_cast<const char*>(prompt.ids.data()), prompt.ids.size_bytes());
  std::uint64_t seed = mixed(seed_, stable_hash(bytes));
  seed = mixed(seed, stable_hash(prompt.salt));
  seed = mixed(seed, stable_hash(prompt.lora));
  return RandomStream(mixed(seed, prompt.choice), "engine output");
}

void OutputWriter::append_words(RandomStream& random, Opening opening, std::uint64_t count,
                                std::vector<TokenId>& out) const {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto& from = i == 0 && opening == Opening::kTurn && !first_.empty() ? first_ : rest_;
    out.push_back(from[random.below(from.size())]);
  }
}

OutputWriter::Answer OutputWriter::words(const Prompt& prompt, Opening opening, std::uint64_t count) const {
  Answer answer;
  answer.ids.reserve(count);
  RandomStream random = stream(prompt);
  append_words(random, opening, count, answer.ids);
  return answer;
}

OutputWriter::Answer OutputWriter::natural(const Prompt& prompt, Opening opening, std::uint64_t count_max) const {
  Answer answer;
  RandomStream random = stream(prompt);
  const double drawn = std::min(random.exponential(static_cast<double>(length_mean_)), 1e9);
  const std::uint64_t count = std::max<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(drawn)), 1);
  const std::uint64_t whole = count + (end_.empty() ? 0 : 1);
  if (whole > count_max) {
    append_words(random, opening, count_max, answer.ids);
    return answer;
  }
  append_words(random, opening, count, answer.ids);
  if (!end_.empty()) answer.ids.push_back(end_.front());
  answer.end = End::kStop;
  return answer;
}

std::vector<float> OutputWriter::vector(const Prompt& prompt, std::uint32_t dimensions) const {
  RandomStream random = stream(prompt);
  std::vector<double> drawn(dimensions);
  double squares = 0;
  for (double& value : drawn) {
    value = random.normal(0, 1);
    squares += value * value;
  }
  const double length = std::sqrt(squares);
  std::vector<float> out;
  out.reserve(dimensions);
  for (const double value : drawn) out.push_back(static_cast<float>(length > 0 ? value / length : 1.0));
  return out;
}

std::string_view OutputWriter::text(TokenId id) const {
  const auto it = texts_.find(id);
  return it == texts_.end() ? std::string_view() : it->second;
}

}  // namespace warmpath::engine_server
