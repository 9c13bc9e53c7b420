#include <algorithm>
#include <string>

#include "doctor/doctor.h"

namespace warmpath::doctor {
namespace {

// Names come from the engine: nothing of them may steer a terminal.
std::string shown(std::string text) {
  std::ranges::replace_if(text, [](char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }, '?');
  return text;
}

std::string verdict(const Report& report) {
  const std::size_t faults = report.count(Outcome::kFault);
  const std::size_t warnings = report.count(Outcome::kWarning);
  const std::size_t open = report.count(Outcome::kNotTested);
  std::string text;
  if (faults > 0) {
    text = std::to_string(faults) + (faults == 1 ? " fault" : " faults") +
           ": prompts at this engine miss its cache, or are sent where they are not cached";
  } else {
    text = "clean: the router sees of this engine what the engine does";
  }
  if (warnings > 0) text += "; " + std::to_string(warnings) + (warnings == 1 ? " warning" : " warnings");
  if (open > 0) text += "; " + std::to_string(open) + " not tested";
  return text;
}

}  // namespace

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk: return "ok";
    case Outcome::kWarning: return "warning";
    case Outcome::kFault: return "fault";
    case Outcome::kNotTested: return "not tested";
  }
  return "";
}

std::size_t Report::count(Outcome outcome) const {
  return static_cast<std::size_t>(std::ranges::count(findings, outcome, &Finding::outcome));
}

std::string to_table(const Report& report) {
  std::size_t width = 0;
  for (const Finding& finding : report.findings) width = std::max(width, finding.check.size());
  constexpr std::size_t kOutcomeWidth = 10;
  std::string out = shown(report.engine + ", model " + report.model);
  if (!report.version.empty()) out += ", version " + report.version;
  out += "\n\n";
  for (const Finding& finding : report.findings) {
    const std::string_view outcome = outcome_name(finding.outcome);
    out += finding.check + std::string(width - finding.check.size() + 2, ' ') + std::string(outcome) +
           std::string(kOutcomeWidth - outcome.size() + 2, ' ') + shown(finding.detail) + "\n";
    if (!finding.remedy.empty())
      out += std::string(width + 2 + kOutcomeWidth + 2, ' ') + "-> " + shown(finding.remedy) + "\n";
  }
  return out + "\n" + verdict(report) + "\n";
}

std::string to_json(const Report& report) {
  JsonWriter json;
  json.object().member("engine", report.engine).member("version", report.version).member("model", report.model);
  json.key("checks").array();
  for (const Finding& finding : report.findings) {
    json.object().member("check", finding.check).member("outcome", outcome_name(finding.outcome));
    json.member("cause", finding.cause).member("detail", finding.detail).member("remedy", finding.remedy).end();
  }
  json.end();
  json.member("faults", std::uint64_t{report.count(Outcome::kFault)});
  json.member("warnings", std::uint64_t{report.count(Outcome::kWarning)});
  json.member("not_tested", std::uint64_t{report.count(Outcome::kNotTested)});
  json.member("clean", report.count(Outcome::kFault) == 0).member("verdict", verdict(report)).end();
  return json.take() + "\n";
}

}  // namespace warmpath::doctor
