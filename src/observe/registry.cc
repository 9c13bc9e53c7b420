#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <sstream>
#include <variant>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include "observe/observe.h"

namespace warmpath::observe {
namespace {

constexpr std::string_view kOverflowValue = "other";

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_metric_name(std::string_view name) {
  if (name.empty() || !(is_name_start(name[0]) || name[0] == ':')) return false;
  return std::ranges::all_of(name, [](char c) { return is_name_start(c) || is_digit(c) || c == ':'; });
}

bool is_label_name(std::string_view name) {
  if (name.empty() || !is_name_start(name[0]) || name.starts_with("__")) return false;
  return std::ranges::all_of(name, [](char c) { return is_name_start(c) || is_digit(c); });
}

// Length of the well-formed UTF-8 sequence at the start of `text`; 0 when there is none.
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return follows(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t n = utf8_sequence(text);
    if (n == 0) {
      out += '?';
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, n));
      text.remove_prefix(n);
    }
  }
  return out;
}

// The serializer writes help text as it is; the text form wants line feeds and backslashes escaped.
std::string escaped_help(std::string_view help) {
  std::string out;
  for (const char c : help) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

using Series = std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>>;

template <class T>
constexpr prometheus::MetricType kTypeOf = prometheus::MetricType::Counter;
template <>
constexpr prometheus::MetricType kTypeOf<Gauge> = prometheus::MetricType::Gauge;
template <>
constexpr prometheus::MetricType kTypeOf<Histogram> = prometheus::MetricType::Histogram;

struct Family {
  prometheus::MetricType type = prometheus::MetricType::Counter;
  std::string help;
  std::vector<std::string> label_names;               // sorted
  std::vector<double> bounds;                         // histograms
  std::map<std::vector<std::string>, Series> series;  // by values, in the order of label_names
  Series* overflow = nullptr;

  std::vector<std::string> overflow_values() const {
    return std::vector<std::string>(label_names.size(), std::string(kOverflowValue));
  }
};

void write_value(const Series& series, prometheus::ClientMetric& out) {
  if (const auto* counter = std::get_if<std::unique_ptr<Counter>>(&series)) {
    out.counter.value = static_cast<double>((*counter)->value());
  } else if (const auto* gauge = std::get_if<std::unique_ptr<Gauge>>(&series)) {
    out.gauge.value = (*gauge)->value();
  } else {
    const Histogram& histogram = *std::get<std::unique_ptr<Histogram>>(series);
    std::uint64_t total = 0;
    for (std::size_t i = 0; i <= histogram.bounds().size(); ++i) {
      total += histogram.bucket(i);
      const double bound =
          i < histogram.bounds().size() ? histogram.bounds()[i] : std::numeric_limits<double>::infinity();
      out.histogram.bucket.push_back({.cumulative_count = total, .upper_bound = bound});
    }
    // From the same reads as the buckets, so that a page never contradicts itself.
    out.histogram.sample_count = total;
    out.histogram.sample_sum = histogram.sum();
  }
}

}  // namespace

void Counter::raise_to(std::uint64_t total) {
  std::uint64_t seen = value_.load(std::memory_order_relaxed);
  while (seen < total && !value_.compare_exchange_weak(seen, total, std::memory_order_relaxed)) {
  }
}

void Gauge::add(double delta) {
  double seen = value_.load(std::memory_order_relaxed);
  while (!value_.compare_exchange_weak(seen, seen + delta, std::memory_order_relaxed)) {
  }
}

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), buckets_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds_.size() + 1)) {
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    WP_CHECK(std::isfinite(bounds_[i]) && (i == 0 || bounds_[i - 1] < bounds_[i]));
  }
}

void Histogram::observe(double value) {
  if (std::isnan(value)) return;
  const auto at = static_cast<std::size_t>(std::ranges::lower_bound(bounds_, value) - bounds_.begin());
  buckets_[at].fetch_add(1, std::memory_order_relaxed);
  double seen = sum_.load(std::memory_order_relaxed);
  while (!sum_.compare_exchange_weak(seen, seen + value, std::memory_order_relaxed)) {
  }
}

std::uint64_t Histogram::count() const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i <= bounds_.size(); ++i) total += bucket(i);
  return total;
}

std::vector<double> latency_seconds() {
  return {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60};
}
std::vector<double> cpu_seconds() {
  return {0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
}
std::vector<double> token_counts() { return {16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}; }
std::vector<double> ratios() { return {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1}; }

struct Registry::Impl {
  explicit Impl(RegistryOptions given) : options(given) {}

  Family& family(std::string_view name, std::string_view help, prometheus::MetricType type,
                 const std::vector<std::string>& label_names, std::span<const double> bounds) {
    const auto found = families.find(name);
    if (found != families.end()) {
      Family& family = found->second;
      WP_CHECK(family.type == type);
      WP_CHECK(family.label_names == label_names);
      WP_CHECK(std::ranges::equal(family.bounds, bounds));
      return family;
    }
    WP_CHECK(is_metric_name(name));
    for (const std::string& label : label_names) {
      WP_CHECK(is_label_name(label));
      WP_CHECK(!(type == prometheus::MetricType::Histogram && label == "le"));
    }
    Family& family = families[std::string(name)];
    family.type = type;
    family.help = escaped_help(help);
    family.label_names = label_names;
    family.bounds.assign(bounds.begin(), bounds.end());
    return family;
  }

  template <class T>
  T& series(std::string_view name, std::string_view help, Labels labels, std::span<const double> bounds) {
    std::ranges::sort(labels);
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (auto& [label, value] : labels) {
      WP_CHECK(names.empty() || names.back() != label);
      names.push_back(label);
      values.push_back(valid_utf8(value));
    }
    const std::lock_guard lock(mutex);
    Family& of = family(name, help, kTypeOf<T>, names, bounds);
    auto found = of.series.find(values);
    if (found == of.series.end()) {
      if (of.series.size() - (of.overflow != nullptr ? 1 : 0) >= options.label_sets_max && !names.empty()) {
        values = of.overflow_values();
        ++overflows;
      }
      found = of.series.try_emplace(values, make<T>(of)).first;
      if (values == of.overflow_values()) of.overflow = &found->second;
    }
    return *std::get<std::unique_ptr<T>>(found->second);
  }

  template <class T>
  static Series make(const Family& of) {
    if constexpr (std::is_same_v<T, Histogram>) {
      return std::make_unique<Histogram>(of.bounds);
    } else {
      return std::make_unique<T>();
    }
  }

  const RegistryOptions options;
  mutable std::mutex mutex;
  std::map<std::string, Family, std::less<>> families;
  std::vector<Series> removed;  // handles to these may still be in use
  std::uint64_t overflows = 0;
};

Registry::Registry(RegistryOptions options) : impl_(std::make_unique<Impl>(options)) {}
Registry::~Registry() = default;

Counter& Registry::counter(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->series<Counter>(name, help, labels, {});
}
Gauge& Registry::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->series<Gauge>(name, help, labels, {});
}
Histogram& Registry::histogram(std::string_view name, std::string_view help, const Labels& labels,
                               std::span<const double> bounds) {
  return impl_->series<Histogram>(name, help, labels, bounds);
}

std::size_t Registry::remove(std::string_view label, std::string_view value) {
  const std::string wanted = valid_utf8(value);
  const std::lock_guard lock(impl_->mutex);
  std::size_t count = 0;
  for (auto& [name, family] : impl_->families) {
    const auto at = std::ranges::find(family.label_names, label);
    if (at == family.label_names.end()) continue;
    const auto column = static_cast<std::size_t>(at - family.label_names.begin());
    for (auto it = family.series.begin(); it != family.series.end();) {
      if (it->first[column] != wanted || &it->second == family.overflow) {
        ++it;
        continue;
      }
      impl_->removed.push_back(std::move(it->second));
      it = family.series.erase(it);
      ++count;
    }
  }
  return count;
}

std::string Registry::expose() const {
  std::vector<prometheus::MetricFamily> page;
  {
    const std::lock_guard lock(impl_->mutex);
    page.reserve(impl_->families.size());
    for (const auto& [name, family] : impl_->families) {
      if (family.series.empty()) continue;
      prometheus::MetricFamily& out = page.emplace_back();
      out.name = name;
      out.help = family.help;
      out.type = family.type;
      out.metric.reserve(family.series.size());
      for (const auto& [values, series] : family.series) {
        prometheus::ClientMetric& metric = out.metric.emplace_back();
        for (std::size_t i = 0; i < values.size(); ++i) {
          metric.label.push_back({.name = family.label_names[i], .value = values[i]});
        }
        write_value(series, metric);
      }
    }
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, page);
  return std::move(text).str();
}

std::string_view Registry::content_type() { return "text/plain; version=0.0.4; charset=utf-8"; }

std::uint64_t Registry::overflows() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->overflows;
}

}  // namespace warmpath::observe
