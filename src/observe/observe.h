// observe: metrics. A Registry owns families of counters, gauges and histograms and writes them in the Prometheus
// text form.
//
//   Registry registry;
//   Counter& requests = registry.counter("warmpath_requests_total", "Requests seen.", {{"pool", "qwen"}});
//   requests.add();
//   Histogram& ttft = registry.histogram("warmpath_ttft_seconds", "Time to first token.", {}, latency_seconds());
//   ttft.observe(0.042);
//   std::string page = registry.expose();
//
// Look a handle up once and keep it: lookup takes a lock and builds strings, add/set/observe do not.
// Thread rule: everything from any thread. Cost: Counter::add and Gauge::set are one relaxed atomic operation,
// Histogram::observe two and a scan of the bounds, none of them takes a lock.
// Ownership: handles live as long as the Registry. After remove() a handle stays valid, but is written nowhere.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/base.h"

namespace warmpath::observe {

// Name and value of each label, in any order. Values are any UTF-8 text; bytes that are not become '?'.
using Labels = std::vector<std::pair<std::string, std::string>>;

// Goes up only. Whole numbers: exact up to 2^53 on the page.
class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  // For a total kept elsewhere (a room's plain counter): moves up to `total`, never down.
  void raise_to(std::uint64_t total);
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double delta);  // may be negative
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void observe(double value);  // NaN is ignored
  std::uint64_t count() const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }
  std::span<const double> bounds() const { return bounds_; }
  // Observations in bucket i, not cumulative; bucket bounds().size() is the one above all bounds.
  std::uint64_t bucket(std::size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;  // ascending; +Inf is implied
  std::unique_ptr<std::atomic<std::uint64_t>[]> buckets_;
  std::atomic<double> sum_{0};
};

// Bucket bounds in common use. latency_seconds: 1 ms to 60 s; cpu_seconds: 10 us to 1 s; tokens: 16 to 1 M, times 4;
// ratio: 0 to 1 by tenths.
std::vector<double> latency_seconds();
std::vector<double> cpu_seconds();
std::vector<double> token_counts();
std::vector<double> ratios();

struct RegistryOptions {
  // Label sets a family may have. A further one is answered with the family's overflow set, in which every label
  // reads "other", so a hostile or careless label costs accuracy, never memory.
  std::size_t label_sets_max = 2'000;
};

// The same (name, labels) always gives the same handle. Names and labels are our own words, so a fault is a bug and
// ends the process (WP_CHECK): a name outside [a-zA-Z_:][a-zA-Z0-9_:]*, a label name outside [a-zA-Z_][a-zA-Z0-9_]*
// or starting with "__", the same label twice, "le" in a histogram, one name as two kinds, two histograms of one
// family with different bounds, bounds not ascending or not finite, label names that differ within a family.
class Registry {
 public:
  explicit Registry(RegistryOptions options = {});
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
  // `bounds` must be the same in every call of one family.
  Histogram& histogram(std::string_view name, std::string_view help, const Labels& labels,
                       std::span<const double> bounds);
  Histogram& histogram(std::string_view name, std::string_view help, const Labels& labels,
                       const std::vector<double>& bounds) {
    return histogram(name, help, labels, std::span<const double>(bounds));
  }

  // Removes from every family all label sets that contain `label` = `value` (an engine that left: its series would
  // otherwise stay for ever). The overflow set stays. Returns how many were removed. A handle looked up before stays
  // safe to use; a new lookup starts a new series from zero. Memory: the values of a removed series (8 bytes, or 8 a
  // bucket) are kept until the Registry ends.
  std::size_t remove(std::string_view label, std::string_view value);

  // The page in Prometheus text form 0.0.4: families by name, label sets by value. Cost: proportional to its size;
  // updates go on meanwhile.
  std::string expose() const;
  static std::string_view content_type();  // "text/plain; version=0.0.4; charset=utf-8"

  // Lookups answered with an overflow set so far.
  std::uint64_t overflows() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::observe
