// The checks: each reads the evidence alone and says one finding. Pure. Private to doctor.
#pragma once

#include <string>
#include <vector>

#include "doctor/compare.h"
#include "doctor/doctor.h"
#include "doctor/evidence.h"
#include "doctor/own_blocks.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

// One text or chat with ids, or a refusal, of both sides.
struct Compared {
  const IdsProbe* probe = nullptr;
  Difference difference = Difference::kNone;
  bool one_side_refuses = false;
  std::string detail;
};

enum class Of : std::uint8_t { kTexts, kChats };

// What several checks look at, worked out once.
class Reading {
 public:
  Reading(const Evidence& evidence_in, const tokens::Tokenizer& tokenizer_in);
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  const Evidence& evidence;
  const tokens::Tokenizer& tokenizer;
  const OwnBlocks own;  // at the end

  const Answered* answer(Answered::Role role) const;  // the last that came, or null
  // The ids of its prompt as the engine has them, where it told them, else ours.
  static const std::vector<TokenId>& ids_of(const Answered& a) { return a.theirs ? *a.theirs : a.ours; }
  OwnBlocks own_at(const Answered& answer) const { return {evidence, tokenizer, answer.heard_until}; }
  // How many were compared, and one that differs so.
  std::size_t count(Of of) const;
  const Compared* find(Of of, Difference difference) const;
  const Compared* refused_by_one() const;
  const Compared* tokenizer_differs() const;
  bool caching_off() const;  // the engine says so, or nothing was stored and nothing reused

 private:
  std::vector<IdsProbe> probes_;
  std::vector<Compared> compared_;
};

using Check = Finding (*)(const Reading&);
struct NamedCheck {
  const char* name;
  Check check;
};
// In the order of the report.
std::vector<NamedCheck> checks();
std::vector<Finding> judge(const Evidence& evidence, const tokens::Tokenizer& tokenizer);

// ids
Finding check_tokenizer(const Reading& reading);
Finding check_special_tokens(const Reading& reading);
Finding check_template(const Reading& reading);
Finding check_prompt_sizes(const Reading& reading);
// events
Finding check_events(const Reading& reading);
Finding check_stream(const Reading& reading);
Finding check_topic(const Reading& reading);
Finding check_replay(const Reading& reading);
Finding check_ranks(const Reading& reading);
// blocks and hits
Finding check_answers(const Reading& reading);
Finding check_prefix_caching(const Reading& reading);
Finding check_block_size(const Reading& reading);
Finding check_blocks(const Reading& reading);
Finding check_salt(const Reading& reading);
Finding check_adapter(const Reading& reading);
Finding check_usage(const Reading& reading);
Finding check_prediction(const Reading& reading);

// Makers of findings; `check` is filled in by judge().
Finding ok(std::string detail);
Finding warning(std::string cause, std::string detail, std::string remedy);
Finding fault(std::string cause, std::string detail, std::string remedy);
Finding not_tested(std::string why);

}  // namespace warmpath::doctor
