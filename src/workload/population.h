// What is asked: the texts and lengths of one population. Private to workload.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "workload/workload.h"

namespace warmpath::workload {

// Writes texts of ids: the same seed and name give the same text.
class Writer {
 public:
  Writer(std::uint64_t seed, std::span<const TokenId> vocabulary)
      : seed_(seed), vocabulary_(vocabulary.begin(), vocabulary.end()) {}
  void write(std::string_view name, std::uint64_t count, std::vector<TokenId>& out) const;
  Message message(Role role, std::string_view name, std::uint64_t count) const;
  // Uniform in [mean / 2, mean * 3 / 2], at least 1.
  std::uint32_t length(std::string_view name, std::uint32_t mean) const;
  std::uint64_t seed() const { return seed_; }

 private:
  const std::uint64_t seed_;
  const std::vector<TokenId> vocabulary_;
};

// A session is a conversation, or one request where there are none. Everything depends on (session, turn) alone.
class Texts {
 public:
  virtual ~Texts() = default;
  virtual std::uint64_t sessions() const = 0;
  virtual std::uint32_t turns() const { return 1; }
  // Fills tenant, salt, output_tokens and appends this turn's new messages to the history in `request`.
  virtual void ask(std::uint64_t session, std::uint32_t turn, Request& request) const = 0;
  // Between the answer to `turn` and the next one.
  virtual Duration think(std::uint64_t session, std::uint32_t turn) const;
};

std::unique_ptr<Texts> make_texts(const Options& options, std::span<const TokenId> vocabulary);

}  // namespace warmpath::workload
