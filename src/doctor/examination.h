// Examination: gathers the evidence at one engine, step by step, on a loop of its own. Private to doctor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/api.h"
#include "doctor/doctor.h"
#include "doctor/evidence.h"
#include "doctor/listener.h"
#include "doctor/probes.h"
#include "http/http.h"
#include "io/io.h"

namespace warmpath::doctor {

class Examination {
 public:
  Examination(const Options& options, const tokens::Tokenizer& tokenizer);
  // An error where there is no engine to examine.
  Result<Evidence> run();

 private:
  using Answer = Result<http::HttpClient::Whole>;

  Result<void> resolve();
  Result<void> meet();
  void read_facts();
  void find_sources();
  void listen();
  void ask_ids();
  void ask_ids_of(const Question& question);
  void generate();
  Answered generate_one(Answered::Role role, const Prompt& prompt, const std::string& salt, const std::string& adapter);
  void hear_out(const Answered& answer);
  bool heard_all(const Answered& answer) const;

  Answer get(const std::string& path) { return ask("GET", path, {}); }
  Answer ask(const std::string& method, const std::string& path, std::string body);
  // Until `done`, looked at every few milliseconds, or that long.
  void wait(Duration longest, const std::function<bool()>& done);
  Duration left() const;

  const Options& options_;
  const tokens::Tokenizer& tokenizer_;
  io::Loop loop_;
  std::unique_ptr<http::HttpClient> client_;
  Instant begun_;
  Duration events_max_;
  io::Address address_;
  Evidence evidence_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Probes> probes_;
};

}  // namespace warmpath::doctor
