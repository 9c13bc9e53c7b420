#include "config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <sstream>

#include "config/gateway_table.h"

namespace warmpath::config {
namespace {

// Builds the tree from the parser's events: nothing is expanded, so an alias costs nothing before it is refused.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view file, std::vector<Fault>& faults) : file_(file), faults_(faults) {
    open_.reserve(kConfigDepthMax + 2);
  }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { leaf(mark, YamlItem::Kind::kNull, ""); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    fault(mark, "aliases (*name) are not allowed: write the value out");
    leaf(mark, YamlItem::Kind::kNull, "");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& value) override {
    leaf(mark, YamlItem::Kind::kText, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {
    open(mark, YamlItem::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    open(mark, YamlItem::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

  bool overflowed() const { return overflowed_; }
  YamlItem take() { return std::move(root_); }

 private:
  struct Open {
    YamlItem item;
    std::string key;
    bool has_key = false;
  };

  static std::size_t line(const YAML::Mark& mark) {
    return mark.line < 0 ? 0 : static_cast<std::size_t>(mark.line) + 1;
  }

  void fault(const YAML::Mark& mark, std::string message) {
    if (faults_.size() <= kFaultsMax) faults_.push_back({file_, line(mark), "", std::move(message)});
  }

  // False once a limit is passed: from then on nothing is stored.
  bool admit(const YAML::Mark& mark) {
    if (overflowed_) return false;
    if (++values_ > kConfigValuesMax) {
      fault(mark, "more than " + std::to_string(kConfigValuesMax) + " values in one file");
      overflowed_ = true;
    } else if (skipped_ + open_.size() >= kConfigDepthMax) {
      fault(mark, "nested deeper than " + std::to_string(kConfigDepthMax) + " levels");
      overflowed_ = true;
    }
    return !overflowed_;
  }

  void leaf(const YAML::Mark& mark, YamlItem::Kind kind, const std::string& text) {
    if (skipped_ > 0 || !admit(mark)) return;
    YamlItem item;
    item.kind = kind;
    item.line = line(mark);
    item.text = text;
    if (!open_.empty() && open_.back().item.kind == YamlItem::Kind::kMap && !open_.back().has_key) {
      take_key(mark, std::move(item));
    } else {
      put(std::move(item));
    }
  }

  void take_key(const YAML::Mark& mark, YamlItem item) {
    Open& map = open_.back();
    if (item.kind != YamlItem::Kind::kText) fault(mark, "a key has to be a text");
    for (const YamlItem& other : map.item.items) {
      if (other.key != item.text) continue;
      fault(mark,
            "the key '" + item.text.substr(0, 80) + "' is given twice; first in line " + std::to_string(other.line));
      break;
    }
    map.key = std::move(item.text);
    map.has_key = true;
  }

  void open(const YAML::Mark& mark, YamlItem::Kind kind) {
    if (skipped_ > 0 || !admit(mark)) {
      ++skipped_;
      return;
    }
    if (!open_.empty() && open_.back().item.kind == YamlItem::Kind::kMap && !open_.back().has_key) {
      fault(mark, "a key has to be a text, not a list or map");
      overflowed_ = true;
      ++skipped_;
      return;
    }
    Open opened;
    opened.item.kind = kind;
    opened.item.line = line(mark);
    open_.push_back(std::move(opened));
  }

  void close() {
    if (skipped_ > 0) {
      --skipped_;
      return;
    }
    if (open_.empty()) return;
    YamlItem item = std::move(open_.back().item);
    open_.pop_back();
    put(std::move(item));
  }

  void put(YamlItem item) {
    if (open_.empty()) {
      root_ = std::move(item);
      return;
    }
    Open& parent = open_.back();
    if (parent.item.kind == YamlItem::Kind::kMap) {
      item.key = std::move(parent.key);
      parent.has_key = false;
    }
    parent.item.items.push_back(std::move(item));
  }

  std::string file_;
  std::vector<Fault>& faults_;
  std::vector<Open> open_;
  YamlItem root_;
  std::size_t values_ = 0;
  std::size_t skipped_ = 0;  // containers opened after a limit was passed
  bool overflowed_ = false;
};

}  // namespace

YamlItem read_yaml(std::string_view text, std::string_view file, std::vector<Fault>& faults) {
  if (text.size() > kConfigBytesMax) {
    faults.push_back({std::string(file), 0, "",
                      "the file has " + std::to_string(text.size()) + " bytes; at most " + size_text(kConfigBytesMax) +
                          " are read"});
    return {};
  }
  TreeBuilder builder(file, faults);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    YamlItem root = builder.take();
    TreeBuilder rest(file, faults);
    if (!builder.overflowed() && parser.HandleNextDocument(rest)) {
      faults.push_back({std::string(file), 0, "", "the file holds several YAML documents ('---'); one is read"});
    }
    return root;
  } catch (const YAML::Exception& e) {
    const std::size_t line = e.mark.line < 0 ? 0 : static_cast<std::size_t>(e.mark.line) + 1;
    faults.push_back({std::string(file), line, "", "this is not YAML: " + e.msg});
  } catch (const std::exception& e) {  // yaml-cpp lets a few of the standard library's through
    faults.push_back({std::string(file), 0, "", std::string("this is not YAML: ") + e.what()});
  }
  return {};
}

std::string_view kind_name(YamlItem::Kind kind) {
  switch (kind) {
    case YamlItem::Kind::kNull: return "nothing";
    case YamlItem::Kind::kText: return "a text";
    case YamlItem::Kind::kList: return "a list";
    case YamlItem::Kind::kMap: return "a map";
  }
  return "nothing";
}

}  // namespace warmpath::config
