// WP_CHECK(condition): a broken invariant of our own ends the process, in every build.
#pragma once

namespace warmpath {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace warmpath

#define WP_CHECK(condition) \
  (__builtin_expect(static_cast<bool>(condition), 1) ? void(0) : ::warmpath::check_failed(#condition, __FILE__, __LINE__))
