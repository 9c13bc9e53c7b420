// Result<T>: a value or an Error. No exceptions leave our code.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace warmpath {

// What went wrong, in the terms of the outside world. api's one table turns a kind into an HTTP status.
enum class ErrorKind : unsigned char {
  kInvalid,        // malformed or impossible input: 400
  kUnauthorized,   // 401
  kForbidden,      // 403
  kNotFound,       // no such model, path, file: 404
  kMethod,         // known path, wrong method: 405
  kTimeoutClient,  // the client was too slow: 408
  kConflict,       // taken (an address in use): 409
  kTooLarge,       // above a named limit: 413
  kHeadTooLarge,   // header block above its limit: 431
  kExhausted,      // a queue, budget or quota is full: 429
  kCancelled,      // the client went away: 499
  kInternal,       // our fault: 500
  kUnsupported,    // understood, not built: 501
  kUpstream,       // an engine answered nonsense or broke off: 502
  kUnavailable,    // no engine: 503
  kTimeoutEngine,  // an engine was too slow: 504
};

// Stable snake_case name ("not_found"), for logs, metrics and JSON.
std::string_view error_kind_name(ErrorKind kind);

// `message` names the thing, the limit and the remedy; it never holds prompt text, keys or salts.
struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    WP_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    WP_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    WP_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    WP_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  Error&& error() && {
    WP_CHECK(!ok());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const& {
    WP_CHECK(!ok());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace warmpath
