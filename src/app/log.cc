#include "app/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

namespace warmpath::app {
namespace {

constexpr std::size_t kUnwrittenBytesMax = 8u << 20;
constexpr auto kFlushEvery = std::chrono::milliseconds(100);

spdlog::level::level_enum level_of(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::kDebug: return spdlog::level::debug;
    case config::LogLevel::kInfo: return spdlog::level::info;
    case config::LogLevel::kWarning: return spdlog::level::warn;
    case config::LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

// Collects formatted lines; a thread of its own writes them.
class BufferedSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit BufferedSink(std::function<void(std::string_view)> write)
      : write_(std::move(write)), writer_([this] { run(); }) {}

  ~BufferedSink() override {
    {
      const std::lock_guard lock(lines_mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    writer_.join();
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    const std::lock_guard lock(lines_mutex_);
    if (lines_.size() + text.size() > kUnwrittenBytesMax) {
      ++dropped_;
      return;
    }
    lines_.append(text.data(), text.size());
  }
  void flush_() override {}

 private:
  void run() {
    bool stop = false;
    while (!stop) {
      std::string lines;
      std::uint64_t dropped = 0;
      {
        std::unique_lock lock(lines_mutex_);
        wake_.wait_for(lock, kFlushEvery, [this] { return stop_; });
        stop = stop_;
        lines.swap(lines_);
        dropped = std::exchange(dropped_, 0);
      }
      if (dropped != 0) lines += fmt::format("log lines dropped: {}\n", dropped);
      if (!lines.empty()) write_(lines);
    }
  }

  const std::function<void(std::string_view)> write_;
  std::mutex lines_mutex_;
  std::condition_variable wake_;
  std::string lines_;
  std::uint64_t dropped_ = 0;
  bool stop_ = false;
  std::thread writer_;
};

void to_stderr(std::string_view lines) {
  std::fwrite(lines.data(), 1, lines.size(), stderr);
  std::fflush(stderr);
}

// Plain words stay bare; everything else is written as a JSON string, which escapes control characters.
void append_text_value(std::string& out, std::string_view text) {
  const bool plain = !text.empty() && text.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                          "._:/#+-@[]") == std::string_view::npos;
  if (plain) {
    out.append(text);
  } else {
    append_json_string(out, text);
  }
}

std::string text_line(std::string_view event, std::initializer_list<Field> fields) {
  std::string out(event);
  for (const Field& field : fields) {
    out.append(1, ' ').append(field.name).append(1, '=');
    std::visit(
        [&out](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::string_view>) {
            append_text_value(out, value);
          } else if constexpr (std::is_same_v<T, double>) {
            fmt::format_to(std::back_inserter(out), "{:.3f}", value);
          } else {
            fmt::format_to(std::back_inserter(out), "{}", value);
          }
        },
        field.value);
  }
  return out;
}

std::string json_line(spdlog::level::level_enum level, std::string_view event, std::initializer_list<Field> fields) {
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  JsonWriter json;
  json.object().member("ts", fmt::format("{:%FT%T}Z", now)).member("level", [&] {
    const auto name = spdlog::level::to_string_view(level);
    return std::string(name.data(), name.size());
  }());
  json.member("event", event);
  for (const Field& field : fields) {
    json.key(field.name);
    std::visit([&json](const auto& value) { json.value(value); }, field.value);
  }
  json.end();
  return json.take();
}

}  // namespace

struct Log::Impl {
  config::LogFormat format;
  std::unique_ptr<spdlog::logger> logger;
};

Log::Log(config::LogLevel level, config::LogFormat format, std::function<void(std::string_view)> write)
    : impl_(std::make_unique<Impl>()) {
  impl_->format = format;
  impl_->logger = std::make_unique<spdlog::logger>(
      "warmpath", std::make_shared<BufferedSink>(write ? std::move(write) : to_stderr));
  impl_->logger->set_level(level_of(level));
  impl_->logger->set_pattern(format == config::LogFormat::kJson ? "%v" : "%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                             spdlog::pattern_time_type::utc);
}

Log::~Log() = default;

void Log::line(config::LogLevel level, std::string_view event, std::initializer_list<Field> fields) {
  const auto as_spdlog = level_of(level);
  if (!impl_->logger->should_log(as_spdlog)) return;
  const std::string text =
      impl_->format == config::LogFormat::kJson ? json_line(as_spdlog, event, fields) : text_line(event, fields);
  impl_->logger->log(as_spdlog, spdlog::string_view_t(text.data(), text.size()));
}

void Log::request(const proxy::AccessRecord& record) {
  constexpr std::size_t kWhyBytesMax = 200;
  const api::Usage usage = record.usage.value_or(api::Usage{});
  line(config::LogLevel::kInfo, "request",
       {{"id", std::string_view(record.request_id)},
        {"model", std::string_view(record.model)},
        {"engine", std::string_view(record.engine)},
        {"status", std::uint64_t(record.status)},
        {"outcome", record.outcome},
        {"attempts", std::uint64_t{record.attempts}},
        {"why", std::string_view(record.why).substr(0, kWhyBytesMax)},
        {"stream", record.stream},
        {"ttft_ms", to_ms(record.ttft)},
        {"total_ms", to_ms(record.total)},
        {"prompt_tokens", std::uint64_t{record.prompt_tokens}},
        {"exact", record.exact},
        {"matched_tokens", std::uint64_t{record.matched_tokens}},
        {"cached_tokens", usage.cached_tokens.value_or(0)},
        {"output_tokens", usage.completion_tokens},
        {"request_bytes", record.request_bytes},
        {"response_bytes", record.response_bytes}});
}

}  // namespace warmpath::app
